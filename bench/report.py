"""What every bench needs: medians, the machine, tables, its section of RESULTS.md, and a line for scripts."""

import argparse
import datetime
import os
import re
import statistics
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

RESULTS = Path(__file__).with_name("RESULTS.md")
CPU_INFO = Path("/proc/cpuinfo")
# The inputs of deforum: every motion, the slowest colours, and frames enough for both prompts.
ANIMATION: dict[str, Any] = {
    "max_frames": 100,
    "animation_prompts": "0: a red circle | 50: a blue square",
    "angle": "0:(2*sin(2*pi*t/30))",
    "zoom": "0: (1.04)",
    "translation_x": "0: (3)",
    "translation_y": "0: (-2)",
    "color_coherence": "Match Frame 0 LAB",
    "sampler": "plms",
    "fps": 15,
    "seed": 0,
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the command line with the option that every bench has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
    return parser


def publish(name: str, text: str, values: Mapping[str, float], write: bool) -> None:
    """Print a bench's section and its figures for scripts, and on request write the section."""
    print(f"\n{text}")
    if write:
        write_section(name, text)
    print(key_values(values))


def median_seconds(calls: Sequence[Callable[[T], object]], inputs: Iterable[T]) -> list[float]:
    """Time each call on each input and return each call's median. They take turns, so that noise affects all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for given in inputs:
        for call, its_times in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(given)
            its_times.append(time.perf_counter() - start)
    return [statistics.median(its_times) for its_times in times]


def machine() -> str:
    """Describe the machine and the day: CPU model, cores, date."""
    text = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} cores, {today.isoformat()}"


def name_of(dtype: object) -> str:
    """Return the name of a type of PyTorch without "torch."."""
    return str(dtype).rpartition(".")[2]


def memory_mb(process: int | str = "self") -> dict[str, float]:
    """Return the peak memory of a process, including the pages of mapped files, and its own memory now."""
    # ru_maxrss would include the parent's peak, since it survives exec.
    fields = dict(
        re.findall(r"^(VmHWM|RssAnon):\s*(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    )
    return {"peak": int(fields["VmHWM"]) * 1024 / 1e6, "own": int(fields["RssAnon"]) * 1024 / 1e6}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paragraph(text: str) -> str:
    """Wrap text at 120 columns."""
    return textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False)


def key_values(values: Mapping[str, float]) -> str:
    """Return "name=value ..." with four significant digits, for scripts to read."""
    return " ".join(f"{name}={value:.4g}" for name, value in values.items())


def write_section(name: str, text: str) -> None:
    """Put text between the markers of a bench in RESULTS.md; a new bench is appended."""
    section = f"<!-- {name} -->\n{text.strip()}\n<!-- /{name} -->"
    results = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    old = re.compile(f"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
    if not old.search(results):
        results = f"{results.rstrip()}\n\n<!-- {name} --><!-- /{name} -->\n"
    RESULTS.write_text(old.sub(lambda _: section, results))
