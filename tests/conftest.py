"""What all tests share. Nothing here, nor what tests/gateway needs, may import torch."""

import os
from collections.abc import Iterator

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported: no test reaches the hub


@pytest.fixture(scope="session", autouse=True)
def own_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test away from the weights that a developer may have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHTS", "small")
        patch.setenv("WEIGHTS_DIR", str(tmp_path_factory.mktemp("weights")))
        yield
