"""What only a GPU can be asked: which way to evaluate the UNet is fastest, memory, and who waits for whom."""

import copy
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import report
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch.profiler import ProfilerActivity, profile

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
UNMEASURED = "unmeasured"
CANDIDATES = ("eager", "CUDA graph", "compiled blocks")
RUNS = ("riffusion", "deforum")
WARM_UP, EVALUATIONS = 3, 20
WIDTH_PX, STRIP_PX, TEXT_PX = 1200, 40, 16
GPU_WORK = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of the profiler's trace
HOST_WORK = ("cpu_op",)

Evaluation = Callable[[], object]
Span = tuple[float, float]  # from, to


def name() -> str:
    """Return the GPU's name, for a list."""
    return f"{torch.cuda.get_device_name()}, "


def measure(evaluation: functools.partial[Any], runs: Mapping[str, Callable[[], object]], draw: bool) -> str:
    """Measure everything and return it as Markdown; with `draw`, replace the pictures of the time lines.

    `evaluation` is a guided UNet evaluation with its arguments, `runs` makes a clip and a frame after the first.
    """
    run_cells = {}
    for its_name, run in runs.items():
        run()
        torch.cuda.reset_peak_memory_stats()
        run()
        peak_gb = torch.cuda.max_memory_allocated() / 1e9
        gpu, host = profiled(run)
        if draw:
            picture(gpu, host).save(PICTURES / f"timeline-{its_name}.png", optimize=True)
        start, end = extent(host)
        run_cells[its_name] = [f"{peak_gb:.2f} GB", f"{busy(gpu, np.array([start, end]))[0]:.0%}"]
    text = _text(candidates(evaluation), run_cells)
    links = [f"![{its_name}](../docs/pictures/timeline-{its_name}.png)" for its_name in runs]
    return "\n".join([text, "Time lines, darker where busier, slowed by the profiler:", "", *links, ""])


def unmeasured() -> str:
    """Return the Markdown of a machine without a GPU."""
    return _text({name: [UNMEASURED] * 2 for name in CANDIDATES}, {name: [UNMEASURED] * 2 for name in RUNS})


def _text(candidate_cells: Mapping[str, Sequence[str]], run_cells: Mapping[str, Sequence[str]]) -> str:
    evaluations = [[name, *cells] for name, cells in candidate_cells.items()]
    runs = [[name, *cells] for name, cells in run_cells.items()]
    return f"""
Ways to make a guided evaluation, {EVALUATIONS} in a row:

{report.markdown_table(["", "an evaluation", "added to set-up"], evaluations)}

{report.markdown_table(["", "peak memory", "GPU busy"], runs)}
"""


@torch.inference_mode()
def candidates(evaluation: functools.partial[Any]) -> dict[str, list[str]]:
    """Return the time of an evaluation and what is added to set-up, each way."""
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
    """Capture the evaluation on this thread, which must also replay it, after a warm-up on a stream aside."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            evaluation()
    torch.cuda.current_stream().wait_stream(aside)
    given = [argument.clone() for argument in evaluation.args]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        evaluation()

    def replay() -> None:
        for static, argument in zip(evaluation.args, given, strict=True):  # as a loop would hand over its latents
            static.copy_(argument)
        graph.replay()

    return replay


def _compiled(evaluation: functools.partial[Any]) -> Evaluation:
    unet = copy.deepcopy(evaluation.func)
    unet.compile_repeated_blocks(fullgraph=True)
    return functools.partial(unet, *evaluation.args, **evaluation.keywords)


def profiled(run: Callable[[], object]) -> tuple[list[Span], list[Span]]:
    """Return when the GPU worked and when the host did, in microseconds."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return spans(events, GPU_WORK), spans(events, HOST_WORK)


def spans(events: Iterable[Mapping[str, Any]], categories: Sequence[str]) -> list[Span]:
    """Return from when to when the events of some categories took, in order."""
    chosen = (event for event in events if event.get("ph") == "X" and event.get("cat") in categories)
    return sorted((float(event["ts"]), float(event["ts"]) + float(event["dur"])) for event in chosen)


def extent(some: Sequence[Span]) -> Span:
    """Return from when to when the spans reach."""
    return some[0][0], max(end for _, end in some)


def busy(some: Sequence[Span], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which part of the time between each edge and the next the spans, which may overlap, cover."""
    times, covered = [edges[0]], [0.0]
    for start, end in some:
        fresh = max(start, times[-1])
        if end > fresh:
            times += [fresh, end]
            covered += [covered[-1], covered[-1] + end - fresh]
    return np.diff(np.interp(edges, times, covered)) / np.diff(edges)


def picture(gpu: Sequence[Span], host: Sequence[Span]) -> Image.Image:
    """Draw two strips over time, the darker the busier."""
    start, end = extent([*host, *gpu])
    edges = np.linspace(start, end, WIDTH_PX + 1)
    drawn = Image.new("L", (WIDTH_PX, 2 * (STRIP_PX + TEXT_PX)), 255)
    for row, (its_name, some) in enumerate((("GPU", gpu), ("host", host))):
        top_px = row * (STRIP_PX + TEXT_PX)
        part = busy(some, edges)
        text = f"{its_name}: busy {part.mean():.0%} of {(end - start) / 1e6:.3f} s"
        ImageDraw.Draw(drawn).text((2, top_px), text, fill=0)
        levels = (255 * (1 - part)).round().clip(0, 255).astype(np.uint8)
        drawn.paste(Image.fromarray(np.tile(levels, (STRIP_PX, 1))), (0, top_px + TEXT_PX))
    return drawn
