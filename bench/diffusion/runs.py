"""Whole runs: clips and frames, by this project and by diffusers' own pipeline."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image

from bench import full_size, report
from bench.diffusion.calls import SIZE_PX, Recorder
from bench.inputs import ANIMATION
from lib import deforum, deforum_request, riffusion, riffusion_request
from lib.animation.video import write_mp4
from lib.audio.seed_images import load as load_seed_image
from lib.diffusion.models import Models
from lib.diffusion.pipeline import GUIDANCE_SCALE
from lib.diffusion.schedule import BETAS
from lib.progress import Stages

RIFFUSION = riffusion_request.Inputs()
DEFORUM = deforum_request.Inputs(**ANIMATION)


@dataclass(frozen=True)
class Measured:
    """The durations of some runs, each with that of its calls of UNet and VAE alone."""

    evaluations: int
    runs: Sequence[tuple[float, float]]

    @property
    def seconds(self) -> float:
        """The median duration of the runs."""
        return statistics.median(whole for whole, _ in self.runs)

    @property
    def floor_s(self) -> float:
        """The median duration of the calls alone."""
        return statistics.median(floor for _, floor in self.runs)

    @property
    def over_floor(self) -> float:
        """The median ratio of the two."""
        return statistics.median(whole / floor for whole, floor in self.runs)


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


def later_frames(models: Models, sampler: str, steps: int) -> tuple[deforum.Frame, Iterator[deforum.Frame]]:
    """Return a grey frame 0 and the frames after it. Their duration doesn't depend on frame 0."""
    grey = np.full((SIZE_PX, SIZE_PX, 3), 128, dtype=np.uint8)
    request = replace(DEFORUM, sampler=sampler).request()
    frames = deforum.Deforum(models, deforum.Recipe(steps=steps)).frames(request, Stages(models.device), first=grey)
    return next(frames), frames


def measure_deforum(models: Models, sampler: str, steps: int, repeats: int) -> Measured:
    """Measure frames after the first, until each is queued for the video's encoder and the next can start."""
    recorder = Recorder(models)
    runs = []

    def frames() -> Iterator[deforum.Frame]:
        first, later = later_frames(recorder.models, sampler, steps)
        yield first
        for _ in range(repeats):
            recorder.clear()
            start_s = time.perf_counter()
            yield next(later)
            whole_s = time.perf_counter() - start_s  # the encoder has queued it and asks for the next
            runs.append((whole_s, recorder.floor_s()))

    with tempfile.TemporaryDirectory() as folder:
        write_mp4(Path(folder) / "frames.mp4", frames(), DEFORUM.fps, {})
    return Measured(len(recorder.calls) - 2, runs)


def measure_diffusers(models: Models, dtype: torch.dtype, strength: float, steps: int, repeats: int) -> float:
    """Return the median duration of diffusers' img2img pipeline with its defaults.

    The models must not be packed, because their parts are converted to `dtype`.
    """
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
