"""Run the whole system on one machine: the gateway with its database, and a Cog server and worker for each model."""

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import gateway.serve.system
from gateway.serve.processes import StartError, free_port
from gateway.serve.supervisor import Command, Supervisor, python
from gateway.serve.system import start, supervised
from lib.errors import UserError
from local import ROOT, serve

NAMES = {  # in the catalog
    "riffusion": "riffusion/riffusion",
    "walk": "riffusion/walk",
    "deforum": "deforum/deforum_stable_diffusion",
    "music-video": "deforum/music-video",
}
PREVIEWED = ("deforum", "music-video")  # their camera motion is drawn by the page, with values from local.preview


@dataclass(frozen=True)
class Options(gateway.serve.system.Options):
    """The command line."""

    models: tuple[str, ...] = tuple(NAMES)
    predictors: Mapping[str, Path] = field(default_factory=dict)  # replace the models' own, for tests and benches


@dataclass
class CogServer:
    """The service that is a model's Cog server. It stays on its port when it is restarted."""

    model: str
    port: int
    predictor: Path | None = None
    name: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(24))  # by which its worker knows its webhooks
    _stack: ExitStack = field(default_factory=ExitStack)  # closing it stops the server

    def __post_init__(self) -> None:
        self.name = self.name or self.model

    @property
    def url(self) -> str:
        """Where it listens: on this machine alone, since it checks no token."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start it with a folder of its own."""
        environment = {"WEBHOOK_AUTH_TOKEN": self.token}
        server = serve.started(self.model, port=self.port, predictor=self.predictor, environment=environment, log=log)
        try:
            return self._stack.enter_context(server).process
        except UserError as error:
            raise StartError(str(error)) from error

    def stop(self, _process: "subprocess.Popen[bytes]") -> None:
        """Stop it with its worker, and delete its folder."""
        self._stack.close()

    def worker(self, environment: Mapping[str, str]) -> Command:
        """Return the worker that runs predictions on it; by its constant name it finds what it ran before a restart."""
        arguments = ["--queue", NAMES[self.model], "--cog-url", self.url, "--name", self.name]
        settings = {**environment, "GATEWAY_CALLBACK_TOKEN": self.token}
        return Command(f"{self.name}-worker", python("-m", "gateway.work", *arguments), settings)


@dataclass(frozen=True)
class System(gateway.serve.system.System):
    """The running system."""

    servers: Sequence[CogServer] = ()


@contextmanager
def running(options: Options, say: Callable[[str], None] = print) -> Iterator[System]:
    """Run the system within a block, which begins when the system is ready.

    Call its `tend` regularly, from the main thread.

    Raises:
        StartError: something can't start, or the port or the data folder is in use.
    """
    data = options.data.resolve()
    with supervised(data, say) as supervisor:
        port = free_port(options.host, options.port)
        servers = [CogServer(name, free_port(), options.predictors.get(name)) for name in options.models]
        for server in servers:
            supervisor.start(server)  # first, since they take longest and need nothing else
        settings = {"GATEWAY_MODELS": ",".join(NAMES[model] for model in options.models), "PYTHONPATH": str(ROOT)}
        if previewed := [model for model in PREVIEWED if model in options.models]:
            preview_port = str(free_port())
            urls = {NAMES[model]: f"http://127.0.0.1:{preview_port}/{model}" for model in previewed}
            settings["GATEWAY_PREVIEWS"] = json.dumps(urls)
            supervisor.start(Command("preview", python("-m", "local.preview", "--port", preview_port), settings))
        changed = replace(options, port=port, settings={**settings, **options.settings})
        started = start(changed, supervisor, say)
        for server in servers:
            supervisor.start(server.worker(started.environment))
        for server in servers:
            wait_until_ready(server, supervisor)
        yield System(**vars(started), servers=servers)


def wait_until_ready(server: CogServer, supervisor: Supervisor) -> None:
    """Return when a Cog server accepts predictions, however long loading its weights takes.

    Raises:
        StartError: its setup failed, or it exited.
    """
    try:
        serve.wait_until_ready(server.url, supervisor.process(server.name))
    except StartError as error:
        raise StartError(f"{server.name} can't start: {error}\nLog: {supervisor.log(server.name)}") from error
