"""Start processes, restart them when they exit, and stop them in order."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from gateway.serve.processes import GRACE_S, StartError, ends_with_parent, stop

STABLE_S = 10  # a process that ran this long is restarted without a pause
SECOND_GRACE_S = 3  # after the second request to exit
PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before each further restart of a process that exits sooner
MAX_LOG_BYTES = 50 << 20  # a longer log is renamed to NAME.old.log


class Service(Protocol):
    """Something that runs as a process and can be started more than once."""

    @property
    def name(self) -> str:
        """The name of its log."""

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start its process, which writes to `log`; raise StartError if that fails."""

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Stop its process and clean up; also called after the process has exited by itself."""


@dataclass(frozen=True)
class Command:
    """A service that is one command."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # added to this process's own
    grace_s: float = GRACE_S  # to finish its work

    def start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start the command in a session of its own, so that a Ctrl-C in the terminal doesn't reach it."""
        return subprocess.Popen(
            self.command,
            env={**os.environ, **self.environment},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=ends_with_parent(),
        )

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Ask it to exit, twice: at the first request a worker finishes its prediction, at the second it exits."""
        stop(process, (self.grace_s, SECOND_GRACE_S))


@dataclass
class _Running:
    """A service, its process, and its restarts."""

    service: Service
    log: Path
    process: "subprocess.Popen[bytes]"
    started_at: float
    failures: int = 0
    restart_at: float | None = None  # while it is down

    def start(self) -> None:
        """Start the service again; it appends to its log."""
        with self.log.open("ab") as log:
            self.process = self.service.start(log)
        self.started_at = time.monotonic()
        self.restart_at = None

    def schedule_restart(self) -> None:
        """Plan the next start; the pause grows with the number of failures."""
        self.restart_at = time.monotonic() + PAUSES_S[min(self.failures, len(PAUSES_S) - 1)]


class Supervisor:
    """Keep services running within a block, and stop them at its end in the reverse order of their start.

    Call it from the main thread, because its processes end with the thread that starts them.
    """

    def __init__(self, logs: Path, say: Callable[[str], None]) -> None:
        self._logs = logs
        self._say = say
        self._running: dict[str, _Running] = {}
        self._retired: list[_Running] = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_error: object) -> None:
        for running in [*self._retired, *reversed(self._running.values())]:
            running.service.stop(running.process)

    def start(self, service: Service) -> None:
        """Start a service with a new log, NAME.log; an earlier one becomes NAME.old.log."""
        log = self._logs / f"{service.name}.log"
        if log.exists():
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as file:
            process = service.start(file)
        self._running[service.name] = _Running(service, log, process, time.monotonic())

    def retire(self, name: str) -> None:
        """Ask a service to exit, however long its work takes, and don't start it again."""
        retired = self._running.pop(name)
        if retired.process.poll() is None:
            retired.process.send_signal(signal.SIGTERM)
        self._retired.append(retired)

    def process(self, name: str) -> "subprocess.Popen[bytes]":
        """Return the current process of a service."""
        return self._running[name].process

    def log(self, name: str) -> Path:
        """Return the path of a service's log."""
        return self._running[name].log

    def tend(self) -> None:
        """Restart the services that have exited; call this regularly."""
        for retired in [one for one in self._retired if one.process.poll() is not None]:
            retired.service.stop(retired.process)
            self._retired.remove(retired)
        for name, running in self._running.items():
            if running.restart_at is None and running.process.poll() is not None:
                self._note_exit(name, running)
            if running.restart_at is not None and time.monotonic() >= running.restart_at:
                self._restart(name, running)
            _shorten(running.log)

    def _note_exit(self, name: str, running: _Running) -> None:
        running.service.stop(running.process)
        running.failures = 0 if time.monotonic() - running.started_at > STABLE_S else running.failures + 1
        running.schedule_restart()
        self._say(f"{name} exited with status {running.process.returncode}; restarting. Log: {running.log}")

    def _restart(self, name: str, running: _Running) -> None:
        try:
            running.start()
        except StartError as error:
            running.failures += 1
            running.schedule_restart()
            self._say(f"{name} can't start: {error}. Trying again. Log: {running.log}")


def python(*arguments: str) -> list[str]:
    """Return the command that runs Python in this environment."""
    return [sys.executable, *arguments]


def _shorten(log: Path) -> None:
    """Move the content of a long log away; its writer appends, and so continues at the new end."""
    if log.stat().st_size > MAX_LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".old.log"))
        os.truncate(log, 0)
