"""Measure clips of script/serve, through the gateway and on the Cog server, and what it takes while idle."""

import os
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench.gateway.system import IDLE, pss
from tests.gateway.processes import ROOT


@dataclass(frozen=True)
class Clips:
    """What was measured with script/serve; the model's own time, which the server tells, is taken off each."""

    direct_ms: Sequence[float]
    gateway_ms: Sequence[float]
    pss_mb: dict[str, float]  # by process, shared pages in parts
    ready_s: float

    @property
    def overhead_ms(self) -> float:
        """Return what the gateway adds to a clip."""
        return statistics.median(self.gateway_ms) - statistics.median(self.direct_ms)


def measure_clips(folder: Path, count: int) -> Clips:
    """Make default clips with script/serve, in turns through the gateway and on the Cog server itself."""
    command = [str(ROOT / "script" / "serve"), "--port", "0", "--data", str(folder)]
    began_s = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, "WEIGHTS": "small"}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            url = next(line for line in process.stdout if line.startswith("ready on")).split()[-1]
            ready_s = time.perf_counter() - began_s
            time.sleep(3)
            memory = memory_of(process.pid)
            headers = {"Authorization": f"Bearer {(folder / 'token').read_text().strip()}"}
            with httpx.Client(base_url=url, headers=headers, timeout=300, trust_env=False) as client:
                direct, through = take_turns(client, cog_url(process.pid), count)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return Clips(direct, through, memory, ready_s)


def take_turns(client: httpx.Client, cog: str, count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds that clips took beyond the model's own, on the Cog server and through the gateway."""
    direct, through = [], []
    for turn in range(count + 1):
        while True:
            began_s = time.perf_counter()
            answer = httpx.post(f"{cog}/predictions", json={"input": {}}, timeout=300, trust_env=False)
            if answer.status_code != httpx.codes.CONFLICT:  # for some milliseconds after an end
                break
        direct.append(beyond_ms(began_s, answer))
        time.sleep(1)
        began_s = time.perf_counter()
        answer = client.post(f"/models/{IDLE}/predictions", json={"input": {}}, headers={"Prefer": "wait=60"})
        through.append(beyond_ms(began_s, answer))
        if turn == 0:  # to warm up
            direct.clear()
            through.clear()
    return direct, through


def beyond_ms(began_s: float, answer: httpx.Response) -> float:
    """Return how many milliseconds an answer took beyond the time that the model took."""
    taken_s = time.perf_counter() - began_s
    prediction = answer.json()
    assert prediction["status"] == "succeeded", prediction
    return 1000 * float(taken_s - prediction["metrics"]["predict_time"])


def cog_url(launcher: int) -> str:
    """Return the address of riffusion's Cog server, which its worker was told."""
    for child in psutil.Process(launcher).children(recursive=True):
        command = child.cmdline()
        if "gateway.work" in command and IDLE in command:
            return str(command[command.index("--cog-url") + 1])
    raise RuntimeError("riffusion has no worker")


def memory_of(launcher: int) -> dict[str, float]:
    """Return the proportional set size of each of our processes in MB; the models' servers are left out."""
    family = [psutil.Process(launcher), *psutil.Process(launcher).children(recursive=True)]
    sizes: dict[str, float] = {}
    for process in family:
        if name := name_of(" ".join(process.cmdline())):
            sizes[name] = sizes.get(name, 0) + pss(process.pid)
    return sizes


def name_of(command: str) -> str | None:
    """Return what a process is called in the table."""
    names = {
        r"-m local\.preview": "the page's preview of motion",
        r"-m local\b": "launcher",
        r"-m gateway$": "gateway",
        rf"gateway\.work .*{IDLE}": "riffusion's worker",
        r"gateway\.work": "deforum's worker",
        r"postgres": "PostgreSQL, all of it",
    }
    return next((name for pattern, name in names.items() if re.search(pattern, command)), None)
