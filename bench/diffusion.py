"""Compare whole runs with the calls of UNet and VAE alone, and with diffusers' own pipeline.

Run: script/bench diffusion [--small | --write] [--plain] [--samplers plms,euler] [--repeats N]. At full size, with
random weights, it takes half an hour on two CPU cores. Each kind of device has its own section in RESULTS.md. It
has not run on a GPU yet.
"""

import contextlib
import functools
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image

from bench import full_size, report
from lib import deforum, deforum_request, riffusion, riffusion_request
from lib.animation.video import write_mp4
from lib.audio.seed_images import load as load_seed_image
from lib.device import pick_device, pick_dtype, synchronize
from lib.diffusion.models import Models, load
from lib.diffusion.pipeline import GUIDANCE_SCALE, decode, denoise, encode
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.diffusion.samplers import SAMPLERS, Sampler
from lib.diffusion.schedule import BETAS
from lib.progress import Stages
from lib.prompt_weights import parse
from lib.weights import SMALL

STEPS, TRIAL_STEPS = deforum.Recipe().steps, 10
SIZE_PX = deforum.Recipe().size_px
CALLS = ("a VAE encode", "a guided UNet evaluation", "a VAE decode")
CALL_REPEATS = 3
CLIP, FRAME = "riffusion, a clip", "deforum, a frame, plms"
RIFFUSION = riffusion_request.Inputs()
DIFFUSERS_TYPES = {"cpu": torch.float32, "cuda": torch.float16}
FLOOR = {
    "cpu": "timed within the same runs",
    "cuda": "repeated with the same arguments between the runs, waiting only once at the end",
}


class Recorder:
    """Models that record every call of their UNet and VAE, with its arguments and duration."""

    def __init__(self, models: Models) -> None:
        self.models = replace(models, unet=_Part(models.unet, self), vae=_Part(models.vae, self))
        self.clear()

    def clear(self) -> None:
        """Forget the calls so far."""
        self.calls: list[functools.partial[Any]] = []
        self.seconds = 0.0

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function and record the call."""
        self.calls.append(functools.partial(function, *args, **kwargs))
        start_s = time.perf_counter()
        result = function(*args, **kwargs)
        self.seconds += time.perf_counter() - start_s
        return result

    @torch.inference_mode()
    def floor_s(self) -> float:
        """Return the duration of the calls alone: on a CPU as recorded, on CUDA of repeating them.

        To time a single call on CUDA, the host would have to wait for it, which the loop never does.
        """
        device = self.models.device
        if device.type == "cpu":
            return self.seconds
        start_s = time.perf_counter()
        for call in self.calls:
            call()
        synchronize(device)
        return time.perf_counter() - start_s


class _Part:
    """A UNet or a VAE whose calls are recorded."""

    def __init__(self, part: Any, recorder: Recorder) -> None:
        self._part, self._recorder = part, recorder

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        return functools.partial(self._recorder.call, found) if name in ("encode", "decode") else found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.call(self._part, *args, **kwargs)


@torch.inference_mode()
def measure_calls(models: Models) -> list[float]:
    """Return the median duration of each of CALLS. They take turns."""
    recorder = Recorder(models)
    prompts = PromptEncoder(models.tokenizer, models.text_encoder)
    (embedding,) = prompts.encode([parse("prompt", "funky synth solo")])
    latents = encode(recorder.models, np.zeros((SIZE_PX, SIZE_PX, 3), dtype=np.float32)).mean
    one_evaluation = Sampler("ddim", 50, 49)
    latents = denoise(recorder.models, one_evaluation, latents, embedding, prompts.unconditional(embedding))
    decode(recorder.models, latents)

    def finished(call: Callable[[], object]) -> Callable[[int], None]:
        def run(_: int) -> None:
            call()
            synchronize(models.device)

        return run

    return report.median_seconds([finished(call) for call in recorder.calls], range(CALL_REPEATS))


@dataclass(frozen=True)
class Measured:
    """The number of UNet evaluations of a run, and the durations of some runs, each with that of its calls alone."""

    evaluations: int
    runs: Sequence[tuple[float, float]]

    @property
    def seconds(self) -> float:
        """The median duration of the runs."""
        return statistics.median(whole for whole, _ in self.runs)

    @property
    def over_floor(self) -> float:
        """The median ratio of the runs to their calls."""
        return statistics.median(whole / floor for whole, floor in self.runs)

    def cells(self) -> list[str]:
        """Return the cells of a table's row."""
        floor_s = statistics.median(floor for _, floor in self.runs)
        return [str(self.evaluations), f"{self.seconds:.3f} s", f"{floor_s:.3f} s", f"{self.over_floor:.3f}"]


def measure_riffusion(models: Models, steps: int, repeats: int) -> Measured:
    """Measure clips of a schedule of `steps` steps. Each encodes its seed image again."""
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


def measure_deforum(models: Models, sampler: str, steps: int, repeats: int) -> Measured:
    """Measure frames after the first, until each is queued for the video's encoder and the next can start."""
    recorder = Recorder(models)
    grey = np.full((SIZE_PX, SIZE_PX, 3), 128, dtype=np.uint8)  # a frame's duration doesn't depend on frame 0
    request = replace(deforum_request.Inputs(**report.ANIMATION), sampler=sampler).request()
    runs = []

    def frames() -> Iterator[deforum.Frame]:
        model = deforum.Deforum(recorder.models, deforum.Recipe(steps=steps))
        made = model.frames(request, Stages(models.device), first=grey)
        yield next(made)
        for _ in range(repeats):
            recorder.clear()
            start_s = time.perf_counter()
            yield next(made)
            whole_s = time.perf_counter() - start_s  # the encoder has queued it and asks for the next
            runs.append((whole_s, recorder.floor_s()))

    with tempfile.TemporaryDirectory() as folder:
        write_mp4(Path(folder) / "frames.mp4", frames(), request.inputs.fps, {})
    return Measured(len(recorder.calls) - 2, runs)


def measure_diffusers(models: Models, strength: float, steps: int, repeats: int) -> float:
    """Return the median duration of diffusers' img2img pipeline with its defaults.

    The models must not be packed, because their parts are converted to DIFFUSERS_TYPES.
    """
    dtype = DIFFUSERS_TYPES[models.device.type]
    parts = {
        name: full_size.cast(getattr(models, name), dtype, torch.contiguous_format)
        for name in ("text_encoder", "vae", "unet")
    }
    parts["unet"].set_attn_processor(AttnProcessor2_0())
    # As in the repository of Stable Diffusion 1.x.
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
    prompt, image = RIFFUSION.prompt_a, Image.fromarray(load_seed_image(RIFFUSION.seed_image_id)).convert("RGB")

    def run(_: int) -> None:
        pipeline(prompt, image, strength=strength, num_inference_steps=steps, guidance_scale=GUIDANCE_SCALE)

    return report.median_seconds([run], range(repeats))[0]


def load_models(small: bool, device: torch.device, packed: bool | None) -> dict[str, Models]:
    """Return both models, by default as the predictors load them; at full size they are the same."""
    names, dtype = ("riffusion", "deforum"), pick_dtype(device)
    if small:
        return {name: load(SMALL / name, device, dtype, packed=packed) for name in names}
    return dict.fromkeys(names, full_size.build(device, dtype, packed=packed))


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print what is being measured and how long it took, and hide the models' progress."""
    print(f"{name} ...", end=" ", flush=True)
    start_s = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    print(f"{time.perf_counter() - start_s:.1f} s", flush=True)


def section(
    facts: str, kind: str, calls_s: Sequence[float], runs: Mapping[str, Measured], diffusers_s: Mapping[str, float]
) -> str:
    """Return a device's section of RESULTS.md."""
    rows = []
    for name, run in runs.items():
        its_s = diffusers_s.get(name)
        rows.append([name, *run.cells(), *([f"{its_s:.3f} s", f"{its_s / run.seconds:.2f}"] if its_s else "--")])
    about = f"""A riffusion clip is a default request without the sound. A deforum frame is one after the first,
    including warp, colours, noise and queueing for the video's encoder. The calls alone are those of the UNet and the
    VAE, {FLOOR[kind]}. diffusers is its StableDiffusionImg2ImgPipeline with its defaults, the same number of steps and
    the same weights; for a deforum frame it does only the diffusion."""
    diffusers = f"diffusers, {report.name_of(DIFFUSERS_TYPES[kind])}"
    header = ["", "evaluations", "this project", "its calls alone", "ratio", diffusers, "to this project"]
    return f"""## Diffusion, {kind.upper()}

{report.paragraph(facts)}

{report.markdown_table(["", "median"], [[name, f"{s:.4f} s"] for name, s in zip(CALLS, calls_s, strict=True)])}

{report.paragraph(about)}

{report.markdown_table(header, rows)}
"""


def main() -> None:
    """Measure, print, and on request write."""
    parser = report.parser(__doc__)
    parser.add_argument("--small", action="store_true", help="use the small models and 10 steps, to try the bench")
    parser.add_argument("--plain", action="store_true", help="don't pack the weights")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="of deforum, plms in any case (default: all)")
    parser.add_argument("--repeats", type=int, help="runs of each kind (default: 1 at full size on a CPU, else 3)")
    options = parser.parse_args()
    device, steps = pick_device(), TRIAL_STEPS if options.small else STEPS
    repeats = options.repeats or (3 if options.small or device.type == "cuda" else 1)
    with step("build"):
        models = load_models(options.small, device, packed=False if options.plain else None)
    with step("UNet evaluation, VAE encode and decode"):
        calls_s = measure_calls(models["riffusion"])
    with step(CLIP):
        runs = {CLIP: measure_riffusion(models["riffusion"], steps, repeats)}
    for sampler in dict.fromkeys(["plms", *options.samplers.split(",")]):
        name = f"deforum, a frame, {sampler}"
        with step(name):
            runs[name] = measure_deforum(models["deforum"], sampler, steps, repeats)
    diffusers_s = {}
    strengths = {CLIP: ("riffusion", RIFFUSION.denoising), FRAME: ("deforum", 1 - deforum.Recipe().strength)}
    for name, (model, strength) in strengths.items():
        with step(f"{name} with diffusers"):
            plain = load_models(options.small, device, packed=False)[model]
            diffusers_s[name] = measure_diffusers(plain, strength, steps, repeats)

    size = f"The small models, {TRIAL_STEPS} steps" if options.small else "Full size with random weights"
    size += ", plain" if options.plain else ""
    gpu = f"{torch.cuda.get_device_name()}, " if device.type == "cuda" else ""
    many = "One run" if repeats == 1 else f"Medians of {repeats} runs"
    facts = f"""{size}, {report.name_of(pick_dtype(device))}, {torch.get_num_threads()} threads; {gpu}
    {report.machine()}. {many} of each kind, medians of {CALL_REPEATS} calls."""
    report.publish(
        f"diffusion-{device.type}",
        section(facts, device.type, calls_s, runs, diffusers_s),
        {
            "riffusion_over_floor": runs[CLIP].over_floor,
            "deforum_over_floor": max(run.over_floor for name, run in runs.items() if name != CLIP),
            "riffusion_vs_diffusers": diffusers_s[CLIP] / runs[CLIP].seconds,
            "deforum_vs_diffusers": diffusers_s[FRAME] / runs[FRAME].seconds,
        },
        options.write,
    )


if __name__ == "__main__":
    main()
