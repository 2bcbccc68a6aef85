"""Serve one model over HTTP with Cog's own server, which is also what its container runs."""

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gateway import version
from gateway.serve.processes import StartError, exit_on_signals, free_port, port_number, stop
from lib.errors import UserError
from local import ROOT
from local.inputs import MODELS, SCHEMA_SUFFIX, module_name
from local.processes import guarded, scratch

COGLET_FOLDER = Path("/tmp/coglet")  # noqa: S108 - Cog 0.23.1 has it there, whatever TMPDIR is
LEFT_S = 86400  # a folder in it of this age is left over: no prediction takes as long
POLL_S = 0.1
ANSWER_S = 10  # the health check answers at once, even while a prediction runs


@dataclass(frozen=True)
class Server:
    """A running server. `folder` is its working directory; the files of its predictions are in `folder`/tmp."""

    url: str
    folder: Path
    process: "subprocess.Popen[bytes]"


def get(url: str) -> tuple[int, bytes] | None:
    """Return the status and the body of a response; None if nobody answers."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=ANSWER_S)
    try:
        connection.request("GET", f"/{path}")
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def health(url: str) -> dict[str, Any]:
    """Return a Cog server's health check; empty if it doesn't answer."""
    answer = get(f"{url}/health-check")
    checked: dict[str, Any] = json.loads(answer[1]) if answer else {}
    return checked


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when the Cog server at `url` accepts predictions, however long loading the weights takes.

    Raises:
        StartError: its setup failed, or its process exited.
    """
    while process.poll() is None:
        checked = health(url)
        if checked.get("status") == "READY":
            return
        if checked.get("status") == "SETUP_FAILED":
            raise StartError(f"the model's setup failed:\n{checked['setup']['logs'].strip()}")
        time.sleep(POLL_S)
    raise StartError(f"the server exited with status {process.returncode}")


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
    """Run the server of `model`; at the end of the block, or if this process is killed, stop it and delete its files.

    Args:
        model: Its name.
        host: The address to listen on.
        port: The port to listen on; 0 chooses a free one.
        upload_url: Where the server uploads output files.
        predictor: A file with another Predictor than the model's own, for tests and benches.
        environment: More variables.
        log: Where the server's output goes; by default to our own.

    Raises:
        StartError: the port is taken, or Cog's own folder is not writable.
        UserError: there is no room for its temporary folder.
    """
    share(COGLET_FOLDER)
    remove_leftovers(COGLET_FOLDER / "predictions")
    port = free_port(host, port)
    with scratch(f"serve-{model}") as folder:
        (folder / "tmp").mkdir()
        (folder / ".cog").mkdir()  # without the schema in it, the server accepts any input
        shutil.copy(ROOT / "schema" / f"{model}{SCHEMA_SUFFIX}", folder / ".cog" / "openapi_schema.json")
        variables = {
            **os.environ,
            "COG_PREDICT_TYPE_STUB": f"{predictor or ROOT / f'predict_{module_name(model)}.py'}:Predictor",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # its worker is a bare `python`
            "PORT": str(port),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder / "tmp"),
            **(environment or {}),
        }
        command = [sys.executable, "-m", "cog.server.http", "--host", host]
        if upload_url:
            command += ["--upload-url", upload_url]
        # In a session of its own, it and its worker are stopped by us and not by a Ctrl-C in the terminal.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=0o077,  # it also writes to COGLET_FOLDER, where others can look
        )
        with guarded(process.pid, folder):
            try:
                yield Server(f"http://{host}:{port}", folder, process)
            finally:
                stop(process)  # it drops asynchronous predictions at once, and would finish synchronous ones


def share(folder: Path) -> None:
    """Create the folder that Cog's servers share, or open ours, so that every user of the machine can serve.

    Cog's server creates a folder for each prediction there, whatever TMPDIR is. The first user's would be closed to
    all others, and a prediction that can't create its folder would block the server's only slot forever.

    Raises:
        StartError: the folder is not writable.
    """
    for path in (folder, folder / "predictions"):
        try:
            path.mkdir(exist_ok=True)
            if path.stat().st_uid == os.geteuid():
                path.chmod(0o1777)  # as /tmp: everyone may add files, and delete their own
            if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
                raise PermissionError(f"it belongs to {path.owner()}")
        except OSError as error:
            raise StartError(
                f"Cog's server can't write to {path} ({error}). Its owner can open it with `chmod 1777 {path}`, or "
                "delete it while no server runs."
            ) from error


def remove_leftovers(folder: Path) -> None:
    """Delete our old folders from the folder of all predictions on this machine.

    Cog's server leaves one for each prediction. The gateway's workers delete those of theirs, unless they are killed.
    """
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a worker deletes it
            found = path.lstat()
            if found.st_uid == os.geteuid() and found.st_mtime < time.time() - LEFT_S:
                shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Parse the command line, and serve until a signal arrives or the server exits."""
    parser = argparse.ArgumentParser(prog="script/serve", description="Serve one model over HTTP without Docker.")
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--port", type=port_number, default=0, help="the port to listen on (default: a free one)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address; 0.0.0.0 admits other machines (default: %(default)s)"
    )
    parser.add_argument(
        "--upload-url", metavar="URL", help="upload videos there by PUT (Cog returns riffusion's files inline)"
    )
    parser.add_argument("--log", action="store_true", help="show the server's whole log instead of only problems")
    arguments = parser.parse_args()
    exit_on_signals()
    address = (arguments.model, arguments.host, arguments.port, arguments.upload_url)
    stopping = threading.Event()
    try:
        with _log(arguments.log, stopping) as log, started(*address, log=log) as server:
            try:
                wait_until_ready(server.url, server.process)
                print(f"{arguments.model} is ready on {server.url}", flush=True)
                status = server.process.wait()
            except SystemExit:
                stopping.set()  # the failure of the interrupted prediction is not worth a message
                raise
        sys.exit(status)
    except (UserError, StartError) as error:
        sys.exit(f"script/serve: {error}")


@contextmanager
def _log(everything: bool, stopping: threading.Event) -> Iterator[IO[bytes] | None]:
    """Give the server something to log to: our own output, or a pipe of which we show what matters."""
    if everything:
        yield None
        return
    near_end, far_end = os.pipe()
    with os.fdopen(near_end, "rb") as lines:
        reader = threading.Thread(target=_show, args=[lines, stopping])
        reader.start()
        with os.fdopen(far_end, "wb") as log:
            try:
                yield log
            finally:
                log.close()
                reader.join()


def _show(lines: IO[bytes], stopping: threading.Event) -> None:
    for line in lines:
        text = noteworthy(line.decode(errors="replace").rstrip())
        if text and not stopping.is_set():
            print(text, file=sys.stderr, flush=True)


def noteworthy(line: str) -> str | None:
    """Return the part of a log line that people need: output of the setup, failures, and stack traces."""
    try:
        entry = json.loads(line)
        fields = entry["fields"]
    except (ValueError, TypeError, KeyError):
        return None if " [info] " in line else line  # not from a logger: Python itself, as it crashes
    message = str(fields.get("message", ""))
    if fields.get("error"):
        return f"{message}: {fields['error']}"
    from_setup = entry.get("target") == "coglet::setup"
    return message if from_setup or entry.get("level") != "INFO" or fields.get("source") == "Stderr" else None


if __name__ == "__main__":
    main()
