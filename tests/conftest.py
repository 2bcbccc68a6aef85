"""What all tests share. Nothing here, nor what tests/gateway needs, may import torch."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported: no test reaches the hub


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's own reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let two processes share the whole suite: what shares servers stays together, the rest goes file by file."""
    for item in items:
        place = item.path.relative_to(TESTS)
        shares_servers = place.parts[0] == "gateway" or place.parts[:2] in (("local", "serving"), ("local", "page"))
        item.add_marker(pytest.mark.xdist_group("/".join(place.parts[:-1]) if shares_servers else str(place)))


@pytest.fixture(scope="session", autouse=True)
def own_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test away from the weights that a developer may have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHTS", "small")
        patch.setenv("WEIGHTS_DIR", str(tmp_path_factory.mktemp("weights")))
        yield
