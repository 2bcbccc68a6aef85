"""The section about whole runs, compared with the model's calls alone and with diffusers' pipeline."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from bench import report
from bench.diffusion import calls, cuda, runs
from bench.diffusion.options import Options, name_of, step
from bench.diffusion.runs import Measured
from lib import deforum, riffusion
from lib.progress import Stages

CALL_REPEATS = 3
DIFFUSERS_TYPES = {"cpu": [torch.float32], "cuda": [torch.float32, torch.float16]}  # its default first
CLIP, FRAME = "riffusion, a clip", "deforum, a frame, plms"
FLOOR = {
    "cpu": "timed within the same runs",
    "cuda": "repeated with the same arguments between the runs, waiting only once at the end",
}


@dataclass(frozen=True)
class Ours:
    """The durations of our own code."""

    calls_s: Mapping[str, float]
    runs: Mapping[str, Measured]
    only_cuda: str  # the results that only a GPU has, as Markdown


def section(options: Options) -> tuple[str, dict[str, float]]:
    """Measure, and return the section of RESULTS.md and the values of the last line."""
    ours = measured(options)
    diffusers_s = measured_diffusers(options)
    clip, frame = ours.runs[CLIP], ours.runs[FRAME]
    ratios = {
        "riffusion_over_floor": clip.over_floor,
        "deforum_over_floor": max(run.over_floor for name, run in ours.runs.items() if name != CLIP),
        "riffusion_vs_diffusers": diffusers_s[CLIP][0] / clip.seconds,
        "deforum_vs_diffusers": diffusers_s[FRAME][0] / frame.seconds,
    }
    return written(options, ours, diffusers_s), ratios


def measured(options: Options) -> Ours:
    """Measure this project's runs and its model's calls."""
    device = options.device
    with step("build"):
        models = options.models()
    with step("UNet evaluation, VAE encode and decode"):
        recorded = calls.recorded(models["riffusion"])
        medians_s = calls.medians_s(list(recorded.values()), device, CALL_REPEATS)
    with step(CLIP):
        its_runs = {CLIP: runs.measure_riffusion(models["riffusion"], options.steps, options.repeats)}
    for sampler in options.samplers:
        name = f"deforum, a frame, {sampler}"
        with step(name):
            its_runs[name] = runs.measure_deforum(models["deforum"], sampler, options.steps, options.repeats)
    only_cuda = ""
    if device.type == "cuda":
        with step("what only a GPU has"):
            musician = riffusion.Riffusion(models["riffusion"])
            _, later = runs.later_frames(models["deforum"], "plms", options.steps)
            clip = functools.partial(musician.picture, runs.RIFFUSION.request(), Stages(device))
            only_cuda = cuda.measure(recorded[calls.EVALUATION], {"riffusion": clip, "deforum": lambda: next(later)})
    return Ours(dict(zip(recorded, medians_s, strict=True)), its_runs, only_cuda)


def measured_diffusers(options: Options) -> dict[str, list[float]]:
    """Return the durations of diffusers' pipeline for the runs that it can do, in each of its types."""
    seconds = {}
    for name, model, strength in (
        (CLIP, "riffusion", runs.RIFFUSION.denoising),
        (FRAME, "deforum", 1 - deforum.Recipe().strength),
    ):
        with step(f"{name} with diffusers"):
            plain = options.models(packed=False)[model]
            seconds[name] = [
                runs.measure_diffusers(plain, dtype, strength, options.steps, options.repeats)
                for dtype in DIFFUSERS_TYPES[options.device.type]
            ]
    return seconds


def run_row(run: Measured, diffusers_s: Sequence[float] | None, columns: int) -> list[str]:
    """Return the cells of a run; diffusers has `columns` of them, which are empty for samplers other than plms."""
    cells = [str(run.evaluations), f"{run.seconds:.3f} s", f"{run.floor_s:.3f} s", f"{run.over_floor:.3f}"]
    if diffusers_s is None:
        return [*cells, *["-"] * columns]
    return cells + [cell for its_s in diffusers_s for cell in (f"{its_s:.3f} s", f"{its_s / run.seconds:.2f}")]


def written(options: Options, ours: Ours, diffusers_s: Mapping[str, Sequence[float]]) -> str:
    """Return a device's section of RESULTS.md."""
    kind = options.device.type
    header = ["", "evaluations", "this project", "its calls alone", "ratio"]
    for dtype in DIFFUSERS_TYPES[kind]:
        header += [f"diffusers, {name_of(dtype)}", "to this project"]
    columns = 2 * len(DIFFUSERS_TYPES[kind])
    call_rows = [[name, f"{its_s:.4f} s"] for name, its_s in ours.calls_s.items()]
    rows = [[name, *run_row(run, diffusers_s.get(name), columns)] for name, run in ours.runs.items()]
    many = "One run" if options.repeats == 1 else f"Medians of {options.repeats} runs"
    about = f"""A riffusion clip is a default request without the sound. A deforum frame is one after the first,
    including warp, colours, noise and queueing for the video's encoder. The calls alone are those of the UNet and the
    VAE, {FLOOR[kind]}. diffusers is its StableDiffusionImg2ImgPipeline with its defaults, the same number of steps and
    the same weights; for a deforum frame it does only the diffusion."""
    return f"""## Diffusion, {kind.upper()}

{report.paragraph(f"{options.facts()}. {many} of each kind, medians of {CALL_REPEATS} calls.")}

{report.markdown_table(["", "median"], call_rows)}

{report.paragraph(about)}

{report.markdown_table(header, rows)}
{ours.only_cuda}"""
