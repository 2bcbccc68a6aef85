"""Serve a model over HTTP with Cog's own server, the one that its container runs."""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from lib.errors import UserError
from local.inputs import MODELS, ROOT, SCHEMA_SUFFIX
from local.scratch import guarded, scratch
from local.version import version

COGLETS_FOLDER = Path("/tmp/coglet")  # noqa: S108 - Cog 0.23.1 has it there, wherever TMPDIR is
POLL_S = 0.1
ANSWER_S = 10  # the health check answers at once, even when a prediction runs
GRACE_S = 10  # asked to end, a server drops asynchronous predictions at once, and would finish synchronous ones


class NotServingError(Exception):
    """Say why there is no server."""


@dataclass(frozen=True)
class Server:
    """A server that was started; `folder` is its working directory, with `tmp` for the files of its predictions."""

    host: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Return the address to send requests to."""
        return f"http://{self.host}:{self.port}"

    def health(self) -> dict[str, Any]:
        """Return what /health-check says, or nothing as long as nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_S)
        try:
            connection.request("GET", "/health-check")
            health: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, http.client.HTTPException):
            return {}
        finally:
            connection.close()
        return health

    def wait_until_ready(self) -> None:
        """Return when the server takes predictions, however long its weights take to come.

        Raises:
            NotServingError: its setup failed, or it ended.
        """
        while self.process.poll() is None:
            health = self.health()
            if health.get("status") == "READY":
                return
            if health.get("status") == "SETUP_FAILED":
                raise NotServingError(f"the setup failed:\n{health['setup']['logs'].strip()}")
            time.sleep(POLL_S)
        raise NotServingError(f"the server ended with status {self.process.returncode}")


@contextmanager
def started(
    model: str,
    host: str = "127.0.0.1",
    port: int = 0,
    upload_url: str | None = None,
    *,
    predictor: Path | None = None,
    environment: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
) -> Iterator[Server]:
    """Start the server of `model`, and end it with all its children and files on the way out, or when we are killed.

    Port 0 takes a free one. What the server writes goes to `log`, or where our own output goes. A `predictor` other
    than the model's own and more `environment` are for tests and benches.

    Raises:
        NotServingError: nobody can listen on that port, or Cog's own folder is closed to us.
        UserError: there is no room for its temporary folder.
    """
    share(COGLETS_FOLDER)
    port = _free_port(host, port)
    with scratch(f"serve-{model}") as folder, guarded(folder) as guard:
        (folder / "tmp").mkdir()
        (folder / ".cog").mkdir()  # without the schema in it, the server lets any input through
        shutil.copy(ROOT / "schema" / f"{model}{SCHEMA_SUFFIX}", folder / ".cog" / "openapi_schema.json")
        variables = {
            **os.environ,
            "COG_PREDICT_TYPE_STUB": f"{predictor or ROOT / f'predict_{model}.py'}:Predictor",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # its worker is a bare `python`
            "PORT": str(port),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder / "tmp"),
            **(environment or {}),
        }
        command = [sys.executable, "-m", "cog.server.http", "--host", host]
        if upload_url:
            command += ["--upload-url", upload_url]
        # In a session of its own, a Ctrl-C in the terminal reaches it through _end alone, and its children with it.
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True)
        guard.watch(process.pid)
        try:
            yield Server(host, port, folder, process)
        finally:
            _end(process)


def share(folder: Path) -> None:
    """Make the folder of Cog's servers, or open ours, so that every user of the machine can serve, as in /tmp itself.

    Cog's server makes a folder for each prediction there, wherever TMPDIR is. The first user's would be closed to all
    others, and a prediction that can't make its folder takes the server's only slot for ever.

    Raises:
        NotServingError: it is closed to us.
    """
    for path in (folder, folder / "predictions"):
        try:
            path.mkdir(exist_ok=True)
            if path.stat().st_uid == os.geteuid():
                path.chmod(0o1777)  # everyone adds, and deletes only what is theirs
            if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
                raise PermissionError(f"it belongs to {path.owner()}")
        except OSError as error:
            raise NotServingError(
                f"Cog's server writes to {path}, which is closed to us ({error}). "
                f"Its owner can open it with chmod 1777 {path}, or delete it when nobody serves."
            ) from error


def _free_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just given up is free
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotServingError(f"can't listen on {host}:{port}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end, then kill what is left of its session; a second Ctrl-C skips the waiting."""
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Parse the command line, serve until a signal comes or the server ends."""
    parser = argparse.ArgumentParser(prog="script/serve", description="Serve a model over HTTP without Docker.")
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--port", type=port_number, default=0, help="where to listen (default: a free port)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    parser.add_argument("--upload-url", metavar="URL", help="PUT videos there (Cog leaves riffusion's files inline)")
    parser.add_argument("--log", action="store_true", help="show all that the server logs, not only what goes wrong")
    arguments = parser.parse_args()
    exit_on_signals()
    address = (arguments.model, arguments.host, arguments.port, arguments.upload_url)
    ending = threading.Event()
    try:
        with _log(arguments.log, ending) as log, started(*address, log=log) as server:
            try:
                server.wait_until_ready()
                print(f"{arguments.model} is ready on {server.url}", flush=True)
                status = server.process.wait()
            except SystemExit:
                ending.set()  # that what it was doing stays undone, is no news
                raise
        sys.exit(status)
    except (NotServingError, UserError) as error:
        sys.exit(f"script/serve: {error}")


@contextmanager
def _log(everything: bool, ending: threading.Event) -> Iterator[IO[bytes] | None]:
    """Lend the server something to log to: our own output, or a pipe from which we show what matters until `ending`."""
    if everything:
        yield None
        return
    near_end, far_end = os.pipe()
    with os.fdopen(near_end, "rb") as lines:
        reader = threading.Thread(target=_show, args=[lines, ending])
        reader.start()
        with os.fdopen(far_end, "wb") as log:
            try:
                yield log
            finally:
                log.close()
                reader.join()


def _show(lines: IO[bytes], ending: threading.Event) -> None:
    for line in lines:
        text = noteworthy(line.decode(errors="replace").rstrip())
        if text and not ending.is_set():
            print(text, file=sys.stderr, flush=True)


def noteworthy(line: str) -> str | None:
    """Return what of a line of the server's log is for people: what the setup says, failures, and tracebacks."""
    try:
        entry = json.loads(line)
        fields = entry["fields"]
    except (ValueError, TypeError, KeyError):
        return None if " [info] " in line else line  # what no logger wrote: Python itself, when it dies
    said = str(fields.get("message", ""))
    if fields.get("error"):
        return f"{said}: {fields['error']}"
    from_setup = entry.get("target") == "coglet::setup"
    return said if from_setup or entry.get("level") != "INFO" or fields.get("source") == "Stderr" else None


def exit_on_signals() -> None:
    """Raise SystemExit where a signal asks to end, so that all that runs is ended in order."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores one, a script's & another
            signal.signal(number, _exit)


def port_number(text: str) -> int:
    """Read a port from the command line, for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, which is a number from 1 to 65535")
    return int(text)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
