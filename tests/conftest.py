"""What all tests share. Nothing here, nor what tests/gateway needs, may import torch."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARE = ("tests/gateway", "tests/local/serving", "tests/web", "tests/workshop")  # servers, or what is rendered

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported: no test reaches the hub
# A shell that starts the suite in the background makes it ignore SIGINT, and its child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Together(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Divide the suite: tests of a folder that share much stay in one process, the others are divided by file."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        folder = file.rpartition("/")[0]
        return folder if folder.startswith(SHARE) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Return the scheduler for pytest-xdist, which script/test uses."""
    return Together(config, log)


@pytest.fixture(scope="session", autouse=True)
def own_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test away from the weights that a developer may have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHTS", "small")
        patch.setenv("WEIGHTS_DIR", str(tmp_path_factory.mktemp("weights")))
        yield
