"""Say whether the server in this container has to be restarted: `python -m lib.probe`, for whoever watches over it.

A Cog server never restarts itself. It exits with status 3 when a restart is due, else with 0: also when nobody answers,
for a server that starts or ends refuses connections, and must be left to it.

BUSY is no proof of work: a prediction can be lost with its slot taken for ever. So this remembers, in the folder for
temporary files, when the processes of the container last computed; BUSY without that for ten minutes is a loss.
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

RESTART = 3  # not 1, which `docker exec` returns for a container that has been stopped
BAD = ("SETUP_FAILED", "UNHEALTHY", "DEFUNCT")
PATIENCE_S = 600
IDLE_SHARE = 0.02  # of one core; a server that waits takes a thousandth, a run on a GPU most of one
TIMEOUT_S = 15


@dataclass(frozen=True)
class Seen:
    """What one look found. Seconds are those since the machine started."""

    at_s: float
    cpu_s: float  # what all processes here have computed, since each began
    worked_s: float  # when they last computed, as far as was seen


def main() -> None:
    """Ask the server, compare with the last look, exit."""
    notes = Path(tempfile.gettempdir()) / "probe.json"
    status = asked(int(os.environ.get("PORT", "5000")))
    seen = look(status, last(notes), time.monotonic(), computed_s())
    with suppress(OSError):  # a full disk is no reason to restart
        notes.write_text(json.dumps(asdict(seen)), encoding="utf-8")
    if reason := due(status, seen):
        print(reason)
        sys.exit(RESTART)


def asked(port: int) -> str | None:
    """Return the status of the server at `port`, None if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health-check", timeout=TIMEOUT_S) as answer:
            return str(json.load(answer)["status"])
    except (OSError, ValueError, KeyError):
        return None


def computed_s(processes: Path = Path("/proc")) -> float:
    """Return the CPU time of all processes here but this one."""
    ticks = 0
    for process in processes.glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if process.name != str(os.getpid()):
                fields = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def last(notes: Path) -> Seen | None:
    """Return what the last look noted, None if there was none."""
    try:
        return Seen(**json.loads(notes.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def look(status: str | None, before: Seen | None, now_s: float, cpu_s: float) -> Seen:
    """Return what is seen now, by comparison with what was seen before."""
    if status != "BUSY" or before is None:
        return Seen(now_s, cpu_s, now_s)
    # Fewer processes than before have computed less: that is a change too.
    worked = abs(cpu_s - before.cpu_s) > IDLE_SHARE * (now_s - before.at_s)
    return Seen(now_s, cpu_s, now_s if worked else before.worked_s)


def due(status: str | None, seen: Seen) -> str | None:
    """Return why a restart is due, None if none is."""
    if status in BAD:
        return f"the server is {status}"
    if status == "BUSY" and seen.at_s - seen.worked_s >= PATIENCE_S:
        return f"the server is BUSY, but has not computed for {seen.at_s - seen.worked_s:.0f} s"
    return None


if __name__ == "__main__":
    main()
