"""Measure what needs a GPU: ways to evaluate the UNet, peak memory, idle time. Never run: no GPU was available."""

import copy
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench import report

WARM_UP, EVALUATIONS = 3, 20
CANDIDATES = ("eager", "CUDA graph", "compiled blocks")

Evaluation = Callable[[], object]


def name() -> str:
    """Return the GPU's name and a comma."""
    return f"{torch.cuda.get_device_name()}, "


def measure(evaluation: functools.partial[Any], runs: Mapping[str, Callable[[], object]]) -> str:
    """Measure everything and return it as Markdown.

    Args:
        evaluation: A guided UNet evaluation with its arguments.
        runs: A clip, and a frame after the first.
    """
    evaluations = [[its_name, *cells] for its_name, cells in candidates(evaluation).items()]
    rows = [[its_name, *memory_and_work(run)] for its_name, run in runs.items()]
    return f"""
Ways to evaluate the UNet with guidance, {EVALUATIONS} evaluations in a row:

{report.markdown_table(["", "an evaluation", "additional setup"], evaluations)}

{report.markdown_table(["", "peak memory", "GPU busy, slowed by the profiler"], rows)}
"""


def memory_and_work(run: Callable[[], object]) -> list[str]:
    """Return the peak memory of a run and the share of its time in which the GPU works, which is on one stream."""
    run()
    torch.cuda.reset_peak_memory_stats()
    run()
    peak_gb = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        start_s = time.perf_counter()
        run()
        torch.cuda.synchronize()
        elapsed_s = time.perf_counter() - start_s
    worked_us = sum(event.self_device_time_total for event in profiler.key_averages())
    return [f"{peak_gb:.2f} GB", f"{worked_us / 1e6 / elapsed_s:.0%}"]


@torch.inference_mode()
def candidates(evaluation: functools.partial[Any]) -> dict[str, list[str]]:
    """Return the duration of an evaluation and of the additional setup, for each way."""
    cells = {}
    for its_name, make in zip(CANDIDATES, (_eager, _graph, _compiled), strict=True):
        start_s = time.perf_counter()
        run = make(evaluation)
        run()
        torch.cuda.synchronize()
        set_up_s = time.perf_counter() - start_s
        start_s = time.perf_counter()
        for _ in range(EVALUATIONS):
            run()
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - start_s) / EVALUATIONS
        cells[its_name] = [f"{1000 * seconds:.2f} ms", f"{max(set_up_s - seconds, 0):.2f} s"]
    return cells


def _eager(evaluation: functools.partial[Any]) -> Evaluation:
    return evaluation


def _graph(evaluation: functools.partial[Any]) -> Evaluation:
    """Capture the evaluation on this thread, which must also replay it, after a warm-up on another stream."""
    other_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    other_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(other_stream):
        for _ in range(WARM_UP):
            evaluation()
    torch.cuda.current_stream().wait_stream(other_stream)
    given = [argument.clone() for argument in evaluation.args]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        evaluation()

    def replay() -> None:
        for static, argument in zip(evaluation.args, given, strict=True):  # as a loop would pass its latents
            static.copy_(argument)
        graph.replay()

    return replay


def _compiled(evaluation: functools.partial[Any]) -> Evaluation:
    unet: Any = copy.deepcopy(evaluation.func)
    unet.compile_repeated_blocks(fullgraph=True)
    return functools.partial(unet, *evaluation.args, **evaluation.keywords)
