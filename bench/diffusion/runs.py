"""Whole runs: clips and frames of this project, and of diffusers' own pipeline."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image

from bench import full_size, report
from bench.inputs import ANIMATION
from bench.recorder import Measured, Recorder
from lib import deforum, deforum_request, riffusion, riffusion_request
from lib.animation.video import write_mp4
from lib.audio.seed_images import load as load_seed_image
from lib.diffusion.models import Models
from lib.diffusion.pipeline import GUIDANCE_SCALE
from lib.diffusion.schedule import BETAS
from lib.progress import Stages

PROMPT = "funky synth solo"
RIFFUSION = riffusion_request.Inputs(prompt_a=PROMPT)
DEFORUM = deforum_request.Inputs(**ANIMATION)
SIZE_PX = deforum.Recipe().size_px


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
    """Return the median seconds of diffusers' own img2img, with defaults; the models' parts are of `dtype` after it.

    The models must be plain ones: packed weights take no other type.
    """
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
