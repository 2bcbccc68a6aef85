"""A system of real Cog servers that run the predictors in this folder, each with its worker."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gateway.serve.processes import free_port
from gateway.serve.supervisor import Command, Supervisor, python
from tests.gateway.conftest import Databases
from tests.gateway.processes import ROOT, System, Token

HERE = Path(__file__).parent
SLOTS = {"tokens": 1, "lines": 1, "slots": 4, "images": 1, "nested": 1}
CALLBACK_TOKEN = "sesame"  # noqa: S105


def version(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def catalog(folder: Path) -> Path:
    """Write a catalog with the predictors."""
    models = []
    for name in SLOTS:
        about = {"id": version(name), "created_at": "2026-01-01T00:00:00Z", "cog_version": "0.23.1"}
        schema = str(HERE / "schemas" / f"{name}.openapi.json")
        models.append({"owner": "test", "name": name, "versions": [about | {"schema": schema}]})
    path = folder / "catalog.json"
    path.write_text(json.dumps({"models": models}))
    return path


def cog_server(name: str, port: int, folder: Path) -> Command:
    (folder / ".cog").mkdir(parents=True)
    (folder / "tmp").mkdir()
    schema = (HERE / "schemas" / f"{name}.openapi.json").read_text()
    (folder / ".cog" / "openapi_schema.json").write_text(schema)
    program = f"import os, runpy; os.chdir({str(folder)!r}); runpy.run_module('cog.server.http', run_name='__main__')"
    variables = {
        "COG_PREDICT_TYPE_STUB": f"{HERE / name}.py:Predictor",
        "COG_MAX_CONCURRENCY": str(SLOTS[name]),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",  # its worker is a bare `python`
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder / "tmp"),
        "WEBHOOK_AUTH_TOKEN": CALLBACK_TOKEN,
    }
    return Command(f"cog-{name}", [sys.executable, "-c", program, "--host", "127.0.0.1"], variables)


def start(system: System, names: Iterable[str]) -> None:
    """Start the predictors with their workers, and the gateway."""
    for name in names:
        port = free_port("127.0.0.1", 0)
        system.supervisor.start(cog_server(name, port, system.folder / name))
        arguments = ["--queue", f"test/{name}", "--cog-url", f"http://127.0.0.1:{port}", "--slots", str(SLOTS[name])]
        worker = Command(f"worker-{name}", python("-m", "gateway.work", *arguments), system.environment)
        system.supervisor.start(worker)
    system.start_gateway()


def settings(folder: Path) -> dict[str, str]:
    """Write a catalog with the predictors, and return the gateway's settings."""
    return {
        "GATEWAY_CALLBACK_TOKEN": CALLBACK_TOKEN,
        "GATEWAY_CATALOG": str(catalog(folder)),
        "GATEWAY_WEBHOOK_HTTP": "true",
        "GATEWAY_WEBHOOK_PRIVATE": "true",
    }


def cog_url(system: System, name: str) -> str:
    arguments = system.supervisor.process(f"worker-{name}").args
    assert isinstance(arguments, list)
    return str(arguments[arguments.index("--cog-url") + 1])


@pytest.fixture(scope="session")
def containers(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("containers")
    with Supervisor(folder / "logs", lambda _note: None) as supervisor:
        system = System(folder, databases.make(), supervisor, settings(folder))
        with system.closing:
            start(system, SLOTS)
            yield system


@pytest.fixture
def containers_token(containers: System) -> Token:
    return containers.token()
