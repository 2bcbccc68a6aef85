"""Break a site of several hosts in every way that it must bear, and see that no prediction is lost or doubled.

Run: script/bench drill [FAULT...] [--write], as root. Each host is a network namespace of this machine: PostgreSQL, two
gateways, three model hosts with stand-ins for Cog servers. All faults take some five minutes, in which it mostly waits.
`script/bench drill throughput` measures predictions a second with 1 to 8 model hosts instead, on a machine at rest.
"""

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import report
from bench.drill import throughput
from bench.drill.checks import Drill, Found
from bench.drill.clients import Clients
from bench.drill.faults import BRIEF_S, CUT_S, DOWN_S, FAULTS, Fault
from bench.drill.isolation import missing, run_inside
from bench.drill.network import OURS
from bench.drill.site import Site, running
from bench.verdict import Evidence, judge, unfinished
from tests.gateway.receiver import Receiver, receiving

MODELS = 3
CLIENTS = 6
SETTLE_S = 300
THROUGHPUT = "throughput"


@dataclass(frozen=True)
class Result:
    """What became of the predictions of one fault."""

    fault: str
    took_s: float
    answered: int
    tried_again: int  # requests that got no answer, or one that says to try again
    failed: int
    again: int  # that took a second attempt
    longest_s: float  # that a client waited beyond its run
    found: Found


def run(name: str, fault: Fault, site: Site, receiver: Receiver, known: set[str]) -> Result:
    """Let clients work, do a fault, wait until all has ended, and judge. known: problems that were told before."""
    clients = Clients(site.gateways, site.token(), f"{receiver.url}/completed", CLIENTS)
    began = time.monotonic()
    clients.start()
    try:
        time.sleep(2)  # until they are at it
        found = fault(Drill(site, clients, receiver))
    finally:
        clients.stop()
    site.until(lambda: unfinished(site.own_url) == 0, SETTLE_S)
    answered = [asked.prediction for asked in clients.answered]
    failed = [one for one in answered if one["status"] != "succeeded"]
    unexpected = [one for one in failed if not str(one["error"]).startswith(found.may_fail_with)]
    found.problems += [f"{one['id']} {one['status']}: {one['error']}" for one in unexpected]
    gave_up = sum(not asked.waited_s for asked in clients.asked)
    found.problems += [f"{gave_up} clients saw no end"] if gave_up else []
    ids = [one["id"] for one in answered]
    evidence = Evidence(site.own_url, ids, receiver.deliveries, site.requests(), site.files, site.tend)
    new = [problem for problem in judge(evidence).problems if problem not in known]
    known.update(new)
    found.problems += new
    again = site.ask("select count(*) from predictions where id = any(%s) and attempts > 1", ids)
    found.problems += [f"{again} predictions ran twice"] if again and not found.runs_again else []
    failures = sum(asked.failures for asked in clients.asked)
    took_s = time.monotonic() - began
    return Result(name, took_s, len(answered), failures, len(failed), again, clients.longest_s, found)


def drill(folder: Path, names: list[str]) -> list[Result]:
    """Do these faults, one after the other, on one site."""
    known: set[str] = set()
    results = []
    with running(folder, MODELS) as site, receiving(OURS) as receiver:
        for name in names:
            print(f"{name} ...", flush=True)
            results.append(run(name, FAULTS[name], site, receiver, known))
            print(told(results[-1]), flush=True)
    return results


def told(result: Result) -> str:
    """Return a fault's outcome in a few lines."""
    seconds = "; ".join(f"{value:.1f} s {name}" for name, value in result.found.seconds.items())
    first = (
        f"  {result.answered} predictions, {result.again} of them in two attempts, {result.failed} failed, "
        f"{len(result.found.problems)} problems; the longest wait {result.longest_s:.1f} s"
    )
    return "\n".join([first, f"  {seconds}", *(f"  {problem}" for problem in result.found.problems[:20])])


def described(results: list[Result]) -> str:
    """Return the bench's section."""
    rows = [
        [
            result.fault,
            str(result.answered),
            str(result.again),
            str(result.failed),
            str(result.tried_again),
            str(len(result.found.problems)),
            f"{result.longest_s:.1f} s",
            "; ".join(f"{value:.1f} s {name}" for name, value in result.found.seconds.items()),
        ]
        for result in results
    ]
    took_s = sum(result.took_s for result in results)
    header = ["fault", "predictions", "in two attempts", "failed", "requests tried again", "lost or doubled"]
    header += ["longest wait", "it took"]
    return f"""## Drill

Network namespaces of one machine: PostgreSQL, two gateways, {MODELS} model hosts with stand-ins for Cog servers;
{CLIENTS} clients at work, which go to the other gateway when one does not answer; {report.machine()}.
Lost or doubled is what has no end or two, was not told of its end or in two ways, or has a file too many or too few.
The longest wait is a client's, from its first try to the end that it sees, its prediction's own run taken off.

{report.markdown_table(header, rows)}

A lost host goes for ever, its cable before its power, while it holds the sweep's lock and its prediction's row. The
link is cut for {CUT_S:.0f} or {BRIEF_S:.0f} s, PostgreSQL is stopped for {DOWN_S:.0f} s. The rolling update
replaces all but PostgreSQL. Two clocks are wrong by an hour: a gateway's is ahead, a model host's behind. What the full
disk does not take fails its prediction, and the error says so. All of it took {took_s:.0f} s.
"""


def main() -> None:
    """Drill, and print what came out; the status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="script/bench drill", description=__doc__.split("\n")[0])
    choices = [*FAULTS, THROUGHPUT]
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"some of {', '.join(choices)}; default: all faults")
    parser.add_argument("--write", action="store_true", help="put the results into bench/RESULTS.md")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep the logs of all hosts there")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.faults or list(FAULTS)
    if unknown := [name for name in names if name not in choices]:
        parser.error(f"there is no fault {unknown[0]!r}; there are {', '.join(choices)}")
    if THROUGHPUT in names and len(names) > 1:
        parser.error(f"{THROUGHPUT} is measured by itself, without {' and '.join(set(names) - {THROUGHPUT})}")
    if options.write and options.faults not in ([], [THROUGHPUT]):
        parser.error("--write records all faults together: leave their names out")
    if options.inside is None:
        if reason := missing():
            sys.exit(reason)
        if "wrong-clock" in names and shutil.which("cc") is None:
            sys.exit("The fault wrong-clock needs a C compiler for its clock: apt-get install gcc libc6-dev")
        sys.exit(run_inside(sys.argv[1:]))
    try:
        sys.exit(act(options.inside, names, options.write))
    finally:
        if options.logs and (options.inside / "logs").exists():
            shutil.copytree(options.inside / "logs", options.logs, dirs_exist_ok=True)


def act(folder: Path, names: list[str], write: bool) -> int:
    """Do what was asked for, and return the exit status."""
    if THROUGHPUT in names:
        measured = throughput.measure(folder)
        text, values, problems = throughput.described(measured), throughput.values(measured), 0
    else:
        results = drill(folder, names)
        text = described(results)
        problems = sum(len(result.found.problems) for result in results)
        waits = [result.longest_s for result in results]
        values = {"problems": problems, "answered": sum(result.answered for result in results)}
        values |= {"longest_s": max(waits)}
    print(text)
    if write:
        report.write_section(THROUGHPUT if THROUGHPUT in names else "drill", text)
    print(report.key_values(values))
    return bool(problems)


if __name__ == "__main__":
    main()
