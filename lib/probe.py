"""A health check for a container, `python -m lib.probe`: it tells when the Cog server must be restarted.

A Cog server never restarts itself. This probe exits with status 3 when a restart is due, and otherwise with 0. No
answer counts as healthy, because a server that is starting or shutting down refuses connections.

BUSY doesn't prove that work is being done: a prediction can be lost and occupy its slot forever. So the probe keeps a
note, in the folder for temporary files, of when the container's processes last computed. BUSY for ten minutes without
computing means that the prediction is lost.

It imports nothing but the standard library, because it runs every 30 seconds next to a model at work.
"""

import json
import os
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

RESTART = 3  # not 1, which `docker exec` returns when the container is stopped
UNHEALTHY = ("SETUP_FAILED", "UNHEALTHY", "DEFUNCT")
STUCK_AFTER_S = 600
IDLE_SHARE = 0.02  # of one core; a waiting server uses a thousandth, a run on a GPU most of one
TIMEOUT_S = 15


@dataclass(frozen=True)
class Observation:
    """What one run of the probe saw. Times are seconds since the machine started."""

    at_s: float
    cpu_s: float  # CPU time of all processes in the container
    worked_s: float  # when they were last seen to compute


def main() -> None:
    """Ask the server, compare with the previous observation, and exit."""
    notes = Path(tempfile.gettempdir()) / "probe.json"
    status = health_status(int(os.environ.get("PORT", "5000")))
    seen = observe(status, previous(notes), time.monotonic(), total_cpu_s())
    with suppress(OSError):  # a full disk is no reason to restart
        notes.write_text(json.dumps(asdict(seen)), encoding="utf-8")
    if reason := restart_reason(status, seen):
        print(reason)
        sys.exit(RESTART)


def health_status(port: int) -> str | None:
    """Return the status that the server at `port` reports, or None if it doesn't answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health-check", timeout=TIMEOUT_S) as answer:
            return str(json.load(answer)["status"])
    except (OSError, ValueError, KeyError):
        return None


def total_cpu_s(processes: Path = Path("/proc")) -> float:
    """Return the CPU time of all processes in the container except this one."""
    ticks = 0
    for process in processes.glob("[0-9]*"):
        with suppress(OSError):  # it has just exited
            if process.name != str(os.getpid()):
                fields = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def previous(notes: Path) -> Observation | None:
    """Return the observation of the previous run, or None if there was none."""
    try:
        return Observation(**json.loads(notes.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def observe(status: str | None, before: Observation | None, now_s: float, cpu_s: float) -> Observation:
    """Return the new observation, given the previous one."""
    if status != "BUSY" or before is None:
        return Observation(now_s, cpu_s, now_s)
    # The total falls when a process exits. That is a change too.
    worked = abs(cpu_s - before.cpu_s) > IDLE_SHARE * (now_s - before.at_s)
    return Observation(now_s, cpu_s, now_s if worked else before.worked_s)


def restart_reason(status: str | None, seen: Observation) -> str | None:
    """Return why the server has to be restarted, or None."""
    if status in UNHEALTHY:
        return f"the server is {status}"
    if status == "BUSY" and seen.at_s - seen.worked_s >= STUCK_AFTER_S:
        return f"the server is BUSY, but has not computed for {seen.at_s - seen.worked_s:.0f} s"
    return None


if __name__ == "__main__":
    main()
