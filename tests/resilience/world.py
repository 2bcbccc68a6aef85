"""Run this program in a world of its own: its processes, its network and its mounts end with it, however it ends."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

from local.children import ends_with_parent
from local.supervisor import python

# A new process table too: when its first process ends, the kernel kills the rest, and network and mounts go with them.
WORLD = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
PROGRAMS = {"unshare": "util-linux", "setpriv": "util-linux", "mount": "mount", "ip": "iproute2"}
TIDY_S = 20


def missing() -> str | None:
    """Say in a sentence what this machine lacks for a drill; None: nothing."""
    if sys.platform != "linux":
        return "The drill needs Linux: its hosts are network namespaces."
    if os.geteuid() != 0:
        return "The drill needs root: it makes network namespaces and mounts, and removes them at its end."
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"The drill needs the program `{program}`: apt-get install {package}"
    tried = subprocess.run(
        [*WORLD, "ip", "link", "add", "name", "probe", "type", "bridge"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        return f"This system lends the drill no network of its own: {tried.stderr.strip()}"
    return None


def run_inside(arguments: Sequence[str]) -> int:
    """Run `python -m bench.drill --inside FOLDER ARGUMENTS` in a world and a folder of its own; return its status.

    Ctrl-C and SIGTERM end it, and the folder is removed in any case.
    """
    folder = Path(tempfile.mkdtemp(prefix="drill-"))
    folder.chmod(0o711)  # PostgreSQL's user passes through it
    command = [*WORLD, *python("-m", "bench.drill", "--inside", str(folder), *arguments)]
    signal.signal(signal.SIGTERM, _end)
    process = subprocess.Popen(command, preexec_fn=ends_with_parent(signal.SIGKILL))
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal has told the drill too
        with suppress(subprocess.TimeoutExpired):
            process.wait(TIDY_S)
        return 128 + signal.SIGINT
    finally:
        _kill(process)
        shutil.rmtree(folder)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the world's first process, and return when the kernel has ended all of the world."""
    if process.poll() is None:
        for first in psutil.Process(process.pid).children() or [process]:
            first.kill()
        process.wait()  # unshare ends when its child has, which is after all others there


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)
