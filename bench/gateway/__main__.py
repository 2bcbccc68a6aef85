"""Measure what the gateway adds: to a create, to a start, to a list, to a clip; and what it takes.

Run: script/bench gateway [--write]. It takes some minutes and uses the small model. The queue is measured with a
stand-in for the Cog server, the clips and the memory with script/serve.
"""

import argparse
import math
import os
import statistics
from collections.abc import Sequence

from bench import report
from bench.gateway.clips import Clips, measure_clips
from bench.gateway.queue import OPEN, STORED, Queue, measure_queue
from bench.gateway.system import CONNECTIONS, own_folder, own_system


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--creates", type=int, default=100, help="one after the other (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of creates at once (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=10, help="each way (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
    options = parser.parse_args()
    with own_system() as system:
        queue = measure_queue(system, options.creates, options.seconds)
    with own_folder() as folder:
        clips = measure_clips(folder, options.clips)
    text = described(queue, clips, options.creates)
    print(text)
    if options.write:
        report.write_section("gateway", text)
    values = {
        "create_ms": statistics.median(queue.create_ms),
        "start_ms": statistics.median(queue.start_ms),
        "creates_per_s": queue.creates_per_s,
        "list_ms": statistics.median(queue.list_ms),
        "rss_mb": sum(clips.pss_mb.values()),
        "overhead_ms": clips.overhead_ms,
    }
    print(report.key_values(values))


def described(queue: Queue, clips: Clips, creates: int) -> str:
    """Return the bench's section."""

    def row(name: str, values: Sequence[float]) -> list[str]:
        return [name, f"{statistics.median(values):.1f} ms", f"{percentile(values, 95):.1f} ms"]

    load = os.getloadavg()[0]
    memory = [[name, f"{size:.0f} MB"] for name, size in clips.pss_mb.items()]
    total = [["together", f"{sum(clips.pss_mb.values()):.0f} MB"]]
    times = [
        row("create", queue.create_ms),
        row("create to start", queue.start_ms),
        row(f"list of 100, {STORED:,} stored", queue.list_ms),
        row(f"GET while {OPEN} wait and {OPEN} stream", queue.held_ms),
        row("a clip on the Cog server, the model's time taken off", clips.direct_ms),
        row("a clip through the gateway, the model's time taken off", clips.gateway_ms),
    ]
    return f"""## Gateway

{creates} creates one after the other, and {len(clips.direct_ms)} clips of the small model in turns;
{report.machine()}, which had other work: {load:.1f} processes wanted its cores on average.

{report.markdown_table(["", "median", "95 %"], times)}

The gateway computes {queue.create_cpu_ms:.1f} ms for a create and {queue.list_cpu_ms:.1f} ms for a list.
{queue.creates_per_s:.0f} creates a second over {CONNECTIONS} connections, the client on the same machine.
{OPEN} waiters and {OPEN} streams: the gateway takes {queue.held_pss_mb:.0f} MB; all cancelled at once, the
last is answered after {queue.released_s:.1f} s.
script/serve is ready after {clips.ready_s:.1f} s. What it takes while idle, without the models' servers (proportional
set size: shared pages count in parts):

{report.markdown_table(["process", "memory"], memory + total)}
"""


def percentile(values: Sequence[float], part: int) -> float:
    """Return the value that `part` percent of the values don't exceed."""
    return sorted(values)[math.ceil(part / 100 * len(values)) - 1]


if __name__ == "__main__":
    main()
