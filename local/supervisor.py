"""Keep processes running, and end them in order."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from local.children import ends_with_parent

CALM_S = 10  # who lived that long is started again at once
AT_ONCE_S = 3  # for a process that was asked twice
PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before the restarts of one that ends sooner
LOG_BYTES = 50 << 20  # then it begins anew, and the old one is kept beside it


class StartError(Exception):
    """Say why a service does not start."""


class Service(Protocol):
    """Something that runs as a process and can be started more than once."""

    @property
    def name(self) -> str:
        """Return what its log is called."""

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start its process, which writes to `log`; raise StartError where that fails."""

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """End its process and clear what it leaves, also when it has ended by itself."""


@dataclass(frozen=True)
class Command:
    """A service that is one command."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # beside this process's own
    folder: Path | None = None
    grace_s: float = 10  # for what it is at

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start it in a session of its own, so that a Ctrl-C in the terminal reaches it in its turn."""
        return subprocess.Popen(
            self.command,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=ends_with_parent(),
        )

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Ask it to end, after `grace_s` once more, and kill what is left of its session in the end."""
        try:
            for patience_s in (self.grace_s, AT_ONCE_S):
                process.terminate()  # a worker ends its prediction at the first, and itself at the second
                with suppress(subprocess.TimeoutExpired):
                    process.wait(patience_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass
class _Running:
    """A service with its process, and how its restarts went."""

    service: Service
    log: Path
    process: "subprocess.Popen[bytes]"
    since: float
    failures: int = 0
    again_at: float | None = None  # when it is started again, while it is down

    @property
    def pause_s(self) -> float:
        """Return how long to wait before the next start."""
        return PAUSES_S[min(self.failures, len(PAUSES_S) - 1)]

    def begin(self) -> None:
        """Start the service, its log at the end of what it wrote before."""
        with self.log.open("ab") as log:
            self.process = self.service.start(log)
        self.since = time.monotonic()
        self.again_at = None


class Supervisor:
    """Start services, start them again when they exit, and end all of them when the block ends.

    They end in the reverse of the order in which they were started. Call it from the main thread: the processes end
    with the thread that starts them.
    """

    def __init__(self, logs: Path, say: Callable[[str], None]) -> None:
        self._logs = logs
        self._say = say
        self._running: dict[str, _Running] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_error: object) -> None:
        for running in reversed(self._running.values()):
            with suppress(SystemExit):  # a second signal skips the waiting for one service, not the end of the others
                running.service.stop(running.process)

    def start(self, service: Service) -> None:
        """Start a service; its log is NAME.log, begun anew."""
        log = self._logs / f"{service.name}.log"
        if log.exists():
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as file:
            process = service.start(file)
        self._running[service.name] = _Running(service, log, process, time.monotonic())

    def process(self, name: str) -> "subprocess.Popen[bytes]":
        """Return the process that a service has now."""
        return self._running[name].process

    def log(self, name: str) -> Path:
        """Return where a service logs."""
        return self._running[name].log

    def tend(self) -> None:
        """Start again what has exited; call it every so often."""
        for name, running in self._running.items():
            if running.again_at is None and running.process.poll() is not None:
                self._note_exit(name, running)
            if running.again_at is not None and time.monotonic() >= running.again_at:
                self._begin(name, running)
            _shorten(running.log)

    def _note_exit(self, name: str, running: _Running) -> None:
        running.service.stop(running.process)
        running.failures = 0 if time.monotonic() - running.since > CALM_S else running.failures + 1
        running.again_at = time.monotonic() + running.pause_s
        self._say(f"{name} ended with status {running.process.returncode}; it starts again. See {running.log}")

    def _begin(self, name: str, running: _Running) -> None:
        try:
            running.begin()
        except StartError as error:
            running.failures += 1
            running.again_at = time.monotonic() + running.pause_s
            self._say(f"{name} does not start: {error}; it is tried again. See {running.log}")


def python(*arguments: str) -> list[str]:
    """Return the command of a Python program in this environment."""
    return [sys.executable, *arguments]


def _shorten(log: Path) -> None:
    """Begin a log anew when it is long; who writes to it appends, and goes on at its new end."""
    if log.stat().st_size > LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".old.log"))
        os.truncate(log, 0)
