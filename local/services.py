"""The parts of the system that are more than a command: the database, and each model's Cog server."""

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lib.errors import UserError
from local import postgres, serve
from local.supervisor import StartError


@dataclass
class Database:
    """The service that is PostgreSQL."""

    cluster: postgres.Cluster
    name: str = "postgres"

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start it and wait until it takes connections."""
        try:
            return self.cluster.start(log)
        except postgres.PostgresError as error:
            raise StartError(str(error)) from error

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """End it after the others."""
        postgres.stop(process)


@dataclass
class CogServer:
    """The service that is a model's Cog server, always on the same port."""

    model: str
    port: int
    predictor: Path | None = None
    _stack: ExitStack = field(default_factory=ExitStack)  # what ends the one that runs

    @property
    def name(self) -> str:
        """Return what its log is called."""
        return self.model

    @property
    def url(self) -> str:
        """Return where it listens, on this machine alone: it asks for no token."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start it with a folder of its own."""
        try:
            return self._stack.enter_context(
                serve.started(self.model, port=self.port, predictor=self.predictor, log=log)
            ).process
        except (serve.NotServingError, UserError) as error:
            raise StartError(str(error)) from error

    def stop(self, _process: "subprocess.Popen[bytes]") -> None:
        """End it with its children, and delete its folder."""
        self._stack.close()
