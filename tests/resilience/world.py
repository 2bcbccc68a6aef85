"""A world of its own for a site, whose network, mounts and processes end together, however it ends.

`python -m tests.resilience.world FOLDER LOGS` runs in it. It reads names of faults from stdin, and prints what each
caused as a line of JSON.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from gateway.serve.processes import ends_with_parent
from gateway.serve.supervisor import python
from local import ROOT
from tests.gateway.receiver import Receiver, receiving
from tests.resilience.clients import Clients
from tests.resilience.faults import FAULTS, Drill
from tests.resilience.judge import judge, unfinished
from tests.resilience.site import OURS, Site, running

# It has its own process table: when its first process ends, the kernel kills the rest and removes network and mounts.
UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
PROGRAMS = ("unshare", "setpriv", "mount", "ip")
MODELS = 3
CLIENTS = 6


@dataclass(frozen=True)
class Result:
    created: int
    problems: list[str]
    seconds: dict[str, float]


def missing() -> str | None:
    """Return why this machine can't run a site, or None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the hosts are network namespaces of Linux, which only root may create"
    if absent := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"needs the programs {', '.join(absent)} (util-linux, mount, iproute2)"
    command = [*UNSHARE, "ip", "link", "add", "name", "probe", "type", "bridge"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"this system lets us create no network: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def created(logs: Path) -> Iterator[Callable[[str], Result]]:
    """Run a world within the block, and yield what runs a fault in it; its hosts log to `logs`."""
    folder = Path(tempfile.mkdtemp(prefix="site-"))  # short, since a socket's path is limited
    folder.chmod(0o711)  # for the user that PostgreSQL runs as
    command = [*UNSHARE, *python("-m", "tests.resilience.world", str(folder), str(logs))]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=ends_with_parent()
    )

    def suffer(fault: str) -> Result:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{fault}\n")
        process.stdin.flush()
        return Result(**json.loads(process.stdout.readline()))

    try:
        with process:
            try:
                yield suffer
            finally:
                for first in psutil.Process(process.pid).children():
                    first.kill()
    finally:  # unshare has exited, and it does so after every process in the world
        shutil.rmtree(folder)


def run(fault: str, site: Site, receiver: Receiver, known: set[str]) -> Result:
    """Run a fault while clients work, wait until everything has ended, and judge. `known` has earlier problems."""
    clients = Clients(site.gateways, site.token(), f"{receiver.url}/completed")
    drill = Drill(site, clients, receiver)
    clients.start(CLIENTS)
    try:
        time.sleep(2)  # until all are at work
        FAULTS[fault](drill)
    finally:
        clients.stop()
    site.until(lambda: unfinished(site.own_url) == 0)
    created = [asked.prediction for asked in clients.asked if asked.id]
    failed = [one for one in created if one["status"] != "succeeded"]
    problems = [f"{one['id']} {one['status']}: {one['error']}" for one in failed if not _expected(one, drill)]
    problems += [f"{asked.id or 'a client'} saw no end" for asked in clients.asked if not asked.ended]
    ids = [one["id"] for one in created]
    again = site.ask("select count(*) from predictions where id = any(%s) and attempts > 1", ids)
    problems += [f"{again} predictions ran twice"] if again and not drill.second_attempts else []
    judged = judge(site.own_url, ids, receiver.deliveries, site.requests(), site.files, site.tend)
    problems += [problem for problem in judged if problem not in known]
    known.update(problems)
    return Result(len(created), [*drill.problems, *problems], drill.seconds)


def _expected(failed: dict[str, object], drill: Drill) -> bool:
    return str(failed["error"]).startswith(drill.may_fail_with) if drill.may_fail_with else False


def main() -> None:
    folder, logs = map(Path, sys.argv[1:])
    known: set[str] = set()
    with running(folder, logs, MODELS) as site, receiving(OURS) as receiver:
        for line in sys.stdin:
            print(json.dumps(asdict(run(line.strip(), site, receiver, known))), flush=True)


if __name__ == "__main__":
    main()
