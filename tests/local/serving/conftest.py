from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from local.inputs import MODELS
from local.serve import started, wait_until_ready
from tests.gateway.receiver import Receiver, receiving
from tests.local.serving.client import Client

QUICK_DEFORUM = Path(__file__).with_name("quick_deforum.py")


@contextmanager
def serving(folder: Path, quick: bool) -> Iterator[dict[str, Client]]:
    """Start a server for each model, both at the same time."""
    with ExitStack() as stack:
        clients = {}
        for model in MODELS:
            log = stack.enter_context((folder / f"{model}.log").open("wb"))
            predictor = QUICK_DEFORUM if quick and model == "deforum" else None
            server = stack.enter_context(started(model, predictor=predictor, log=log))
            clients[model] = Client(model, server, Path(log.name))
        for client in clients.values():
            wait_until_ready(client.server.url, client.server.process)
        yield clients


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    """Run the two servers that most tests share. Every test leaves them idle."""
    with serving(tmp_path_factory.mktemp("serving"), quick=True) as clients:
        yield clients


@pytest.fixture(params=MODELS)
def client(request: pytest.FixtureRequest, clients: dict[str, Client]) -> Client:
    return clients[request.param]


@pytest.fixture
def riffusion(clients: dict[str, Client]) -> Client:
    return clients["riffusion"]


@pytest.fixture
def deforum(clients: dict[str, Client]) -> Client:
    return clients["deforum"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver
