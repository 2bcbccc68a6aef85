"""Compare the diffusion loop with its floor, the model's calls alone, and with diffusers' own pipeline.

Run: script/bench diffusion [--small | --write] [--samplers plms,euler] [--repeats N]. At full size, with random
weights, it takes half an hour on two CPU cores. Each kind of device has a section of its own in RESULTS.md.
"""

import argparse
import contextlib
import functools
import io
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image

from bench import diffusion_cuda, full_size, report
from bench.inputs import ANIMATION
from bench.recorder import Measured, Recorder
from lib import deforum, deforum_request, riffusion, riffusion_request
from lib.animation.video import write_mp4
from lib.audio.seed_images import load as load_seed_image
from lib.device import pick_device, pick_dtype, synchronize
from lib.diffusion.models import Models, load
from lib.diffusion.pipeline import GUIDANCE_SCALE, decode, denoise, encode
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.prompt_weights import parse
from lib.diffusion.samplers import BETAS, SAMPLERS, Sampler
from lib.progress import Stages
from lib.weights import SMALL

PROMPT = "funky synth solo"
RIFFUSION = riffusion_request.Inputs(prompt_a=PROMPT)
DEFORUM = deforum_request.Inputs(**ANIMATION)
SIZE_PX = deforum.Recipe().size_px
PARTS = (
    "a VAE encode",
    "a guided UNet evaluation",
    "a VAE decode",
    "a guided UNet evaluation with PyTorch's fused attention everywhere",
)
PART_REPEATS = 3
STEPS, TRIAL_STEPS = deforum.Recipe().steps, 10
DIFFUSERS_TYPES = {"cpu": [torch.float32], "cuda": [torch.float32, torch.float16]}  # its default comes first


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print what is being measured, and how long it took in all; keep the models' own progress off the screen."""
    print(f"{name} ...", end=" ", flush=True)
    start_s = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    print(f"{time.perf_counter() - start_s:.1f} s in all", flush=True)


def recorded_parts(models: Models) -> list[functools.partial[Any]]:
    """Return the calls of PARTS as the loop makes them, each done once."""
    recorder = Recorder(models)
    image = np.zeros((SIZE_PX, SIZE_PX, 3), dtype=np.float32)
    prompts = PromptEncoder(models.tokenizer, models.text_encoder)
    (embedding,) = prompts.encode([parse("prompt", PROMPT)])
    one_evaluation = Sampler("ddim", 50, 49)
    latents = encode(recorder.models, image).mean
    latents = denoise(recorder.models, one_evaluation, latents, embedding, prompts.unconditional(embedding))
    decode(recorder.models, latents)
    return [*recorder.calls, functools.partial(with_fused_attention, recorder.calls[1])]


def with_fused_attention(evaluation: functools.partial[Any]) -> None:
    """Evaluate a UNet with the attention that diffusers gives it."""
    unet: Any = evaluation.func
    ours = unet.attn_processors
    unet.set_attn_processor(AttnProcessor2_0())
    evaluation()
    unet.set_attn_processor(ours)


@torch.inference_mode()
def parts_s(calls: Sequence[Callable[[], object]], device: torch.device, repeats: int) -> list[float]:
    """Return the median seconds of each call."""

    def waited_for(call: Callable[[], object]) -> Callable[[int], None]:
        def run(_: int) -> None:
            call()
            synchronize(device)

        return run

    return report.median_seconds([waited_for(call) for call in calls], range(repeats))


def measure_riffusion(models: Models, steps: int, repeats: int) -> Measured:
    """Measure requests of so many steps, each with a seed image that was not encoded before."""
    recorder = Recorder(models)
    request = replace(RIFFUSION, num_inference_steps=steps).request()
    runs = []
    for _ in range(repeats):
        model = riffusion.Riffusion(recorder.models)
        recorder.clear()
        start_s = time.perf_counter()
        model.picture(request, Stages(models.device))
        whole_s = time.perf_counter() - start_s
        runs.append((whole_s, recorder.floor_s()))
    return Measured(len(recorder.calls) - 2, runs)


def later_frames(models: Models, sampler: str, steps: int) -> tuple[deforum.Frame, Iterator[deforum.Frame]]:
    """Return frame 0, which is grey, and the frames after it: what they cost does not depend on it."""
    grey = np.full((SIZE_PX, SIZE_PX, 3), 128, dtype=np.uint8)
    request = replace(DEFORUM, sampler=sampler).request()
    frames = deforum.Deforum(models, deforum.Recipe(steps=steps)).frames(request, Stages(models.device), first=grey)
    return next(frames), frames


def measure_deforum(models: Models, sampler: str, steps: int, repeats: int) -> Measured:
    """Measure frames after the first, until each is handed to the video's encoder and the next can begin."""
    recorder = Recorder(models)
    runs = []

    def frames() -> Iterator[deforum.Frame]:
        first, later = later_frames(recorder.models, sampler, steps)
        yield first
        for _ in range(repeats):
            recorder.clear()
            start_s = time.perf_counter()
            yield next(later)
            whole_s = time.perf_counter() - start_s  # the encoder has taken it, and asks for one more
            runs.append((whole_s, recorder.floor_s()))

    with tempfile.TemporaryDirectory() as folder:
        write_mp4(Path(folder) / "frames.mp4", frames(), DEFORUM.fps, {})
    return Measured(len(recorder.calls) - 2, runs)


def measure_diffusers(models: Models, dtype: torch.dtype, strength: float, steps: int, repeats: int) -> float:
    """Return the median seconds of diffusers' own img2img, with defaults; the models' parts are of `dtype` after it."""
    parts = {
        name: full_size.cast(getattr(models, name), dtype, torch.contiguous_format)
        for name in ("text_encoder", "vae", "unet")
    }
    parts["unet"].set_attn_processor(AttnProcessor2_0())
    # As the repository of Stable Diffusion 1.x configures it.
    scheduler = PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    pipeline = StableDiffusionImg2ImgPipeline(
        **parts,
        tokenizer=models.tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    image = Image.fromarray(load_seed_image(RIFFUSION.seed_image_id)).convert("RGB")

    def run(_: int) -> None:
        pipeline(PROMPT, image, strength=strength, num_inference_steps=steps, guidance_scale=GUIDANCE_SCALE)

    return report.median_seconds([run], range(repeats))[0]


def run_row(run: Measured, diffusers_s: Sequence[float] | None, columns: int) -> list[str]:
    """Return a run's cells of the table, so many for diffusers, which is asked for no sampler but plms."""
    cells = [str(run.evaluations), f"{run.seconds:.3f} s", f"{run.floor_s:.3f} s", f"{run.over_floor:.3f}"]
    if diffusers_s is None:
        return [*cells, *["-"] * columns]
    return cells + [cell for its_s in diffusers_s for cell in (f"{its_s:.3f} s", f"{its_s / run.seconds:.2f}")]


def paragraph(text: str) -> str:
    """Return text in lines of equal width."""
    return textwrap.fill(" ".join(text.split()), 120)


def section(device_type: str, facts: str, parts: Mapping[str, Sequence[str]], runs: Mapping[str, Sequence[str]]) -> str:
    """Return a device's section of RESULTS.md."""
    header = ["", "evaluations", "this project", "its calls alone", "ratio"]
    for given in DIFFUSERS_TYPES[device_type]:
        header += [f"diffusers, {str(given).split('.')[-1]}", "to this project"]
    how = {
        "cpu": "timed within the same runs",
        "cuda": "made again with the same arguments, taking turns with the whole runs, and waited for once, at the end",
    }
    about = f"""A riffusion clip is a default request without the sound; a deforum frame is one after the first, warp,
    colours, noise and the handing over to the video's encoder included. The calls alone are those of the UNet and the
    VAE, {how[device_type]}. diffusers is its StableDiffusionImg2ImgPipeline with its defaults, as many steps and the
    same weights; it has nothing to do for a deforum frame but the diffusion."""
    return f"""## Diffusion, {device_type.upper()}

{paragraph(facts)}

{report.markdown_table(["", "median"], [[name, *cells] for name, cells in parts.items()])}

{paragraph(about)}

{report.markdown_table(header, [[name, *cells] for name, cells in runs.items()])}
"""


def arguments() -> argparse.Namespace:
    """Read the command line; `samplers` as a list, plms first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="for a trial: the small models, 10 steps")
    size.add_argument("--write", action="store_true", help="replace this device's section of RESULTS.md")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="of deforum; plms always is one (default: all)")
    parser.add_argument("--repeats", type=int, help="runs of each kind (default: 1 of full size on a CPU, else 3)")
    options = parser.parse_args()
    options.samplers = list(dict.fromkeys(["plms", *options.samplers.split(",")]))
    if unknown := [name for name in options.samplers if name not in SAMPLERS]:
        parser.error(f"--samplers: {unknown[0]} is not one of {', '.join(SAMPLERS)}")
    return options


def main() -> None:
    """Measure, print, and on request write."""
    options = arguments()
    device, dtype = pick_device(), pick_dtype(pick_device())
    on_cuda = device.type == "cuda"
    steps = TRIAL_STEPS if options.small else STEPS
    repeats = options.repeats or (3 if options.small or on_cuda else 1)

    with step("build"):
        if options.small:
            models = {name: load(SMALL / name, device, dtype) for name in ("riffusion", "deforum")}
        else:
            models = dict.fromkeys(("riffusion", "deforum"), full_size.build(device, dtype))
    with step("UNet evaluation, VAE encode and decode"):
        parts = recorded_parts(models["riffusion"])
        part_rows = {
            name: [f"{its_s:.4f} s"] for name, its_s in zip(PARTS, parts_s(parts, device, PART_REPEATS), strict=True)
        }
    with step("riffusion"):
        measured = {"riffusion, a clip": measure_riffusion(models["riffusion"], steps, repeats)}
    for sampler in options.samplers:
        with step(f"deforum, {sampler}"):
            measured[f"deforum, a frame, {sampler}"] = measure_deforum(models["deforum"], sampler, steps, repeats)
    if on_cuda:
        with step("what only a GPU can be asked"):
            musician = riffusion.Riffusion(models["riffusion"])
            _, later = later_frames(models["deforum"], "plms", steps)
            only_cuda = diffusion_cuda.measure(
                parts[1],
                {
                    "riffusion": lambda: musician.picture(RIFFUSION.request(), Stages(device)),
                    "deforum": lambda: next(later),
                },
            )
    diffusers_s: dict[str, list[float]] = {}
    for name, model, strength in (
        ("riffusion, a clip", "riffusion", RIFFUSION.denoising),
        ("deforum, a frame, plms", "deforum", 1 - deforum.Recipe().strength),
    ):
        with step(f"{name} with diffusers"):
            diffusers_s[name] = [
                measure_diffusers(models[model], given, strength, steps, repeats)
                for given in DIFFUSERS_TYPES[device.type]
            ]

    columns = 2 * len(DIFFUSERS_TYPES[device.type])
    rows = {name: run_row(run, diffusers_s.get(name), columns) for name, run in measured.items()}
    facts = (
        f"{'The small models, 10 steps' if options.small else 'Full size with random weights'}, "
        f"{str(dtype).split('.')[-1]}, "
        f"{torch.get_num_threads()} threads; {diffusion_cuda.name() if on_cuda else ''}{report.machine()}. "
        f"{'One whole run' if repeats == 1 else f'Medians of {repeats} whole runs'} of each kind, medians of "
        f"{PART_REPEATS} calls."
    )
    text = section(device.type, facts, part_rows, rows) + (only_cuda if on_cuda else "")
    print(f"\n{text}")
    if options.write:
        report.write_section(f"diffusion-{device.type}", text)
    clip, plms = (measured[name] for name in diffusers_s)
    ratios = {
        "riffusion_over_floor": clip.over_floor,
        "deforum_over_floor": max(run.over_floor for name, run in measured.items() if name.startswith("deforum")),
        "riffusion_vs_diffusers": diffusers_s["riffusion, a clip"][0] / clip.seconds,
        "deforum_vs_diffusers": diffusers_s["deforum, a frame, plms"][0] / plms.seconds,
    }
    print(f"device={device.type} {report.key_values(ratios)}")


if __name__ == "__main__":
    main()
