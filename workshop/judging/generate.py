"""Ask the small model, trained and untrained, for captions it has not seen, at full denoising."""

import itertools
from collections.abc import Iterable, Set
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lib.deforum import Deforum
from lib.deforum_request import Inputs as DeforumInputs
from lib.deforum_request import Request as DeforumRequest
from lib.diffusion.models import Models, assemble, load
from lib.progress import Stages
from lib.riffusion import Riffusion
from lib.riffusion_request import Inputs as RiffusionInputs
from lib.riffusion_request import Request as RiffusionRequest
from lib.weights import SMALL
from workshop.music import clips
from workshop.pictures import paintings
from workshop.training import architecture
from workshop.training.dataset import Example, render
from workshop.training.denoiser import MODELS

HELD_OUT_SEED = 20_000_000  # beyond those of the training and of the measures
EACH, UNTRAINED_EACH = 10, 3  # captions of each class
TRIES = 500
SEED_IMAGE = "og_beat"
UNTRAINED_SEED = 0

Picture = NDArray[np.uint8]


class Job(NamedTuple):
    """Hold what a process is to generate: of which model, trained or not, from which captions."""

    domain: str
    trained: bool
    captions: tuple[str, ...]


def held_out(domain: str, seen: Set[str], class_names: Iterable[str], tries: int = TRIES) -> list[Example]:
    """Write EACH captions of every class that do not stand among those trained on, which were `seen`.

    Where a class has fewer in so many tries, since little can be said of it, the rest are ones that do.
    """
    asked: list[Example] = []
    for name in class_names:
        unseen: dict[str, Example] = {}
        others: dict[str, Example] = {}
        for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + tries):
            one = render(domain, seed, name)
            (others if one.caption in seen else unseen).setdefault(one.caption, one)
            if len(unseen) == EACH:
                break
        asked += [*unseen.values(), *others.values()][:EACH]
    return asked


def classes(domain: str) -> tuple[str, ...]:
    """Return the names of the ten classes of a domain."""
    return tuple(clips.CLASSES if domain == "music" else paintings.CLASSES)


@lru_cache
def models(domain: str, trained: bool) -> Models:
    """Load the small model of a domain, or the same parts with random weights."""
    loaded = load(SMALL / MODELS[domain], torch.device("cpu"))
    if trained:
        return loaded
    with torch.random.fork_rng():
        torch.manual_seed(UNTRAINED_SEED)
        fresh = {
            "text_encoder": architecture.text_encoder(loaded.tokenizer),
            "vae": architecture.vae(),
            "unet": architecture.unet(),
        }
    fresh["vae"].register_to_config(scaling_factor=loaded.vae.config.scaling_factor)
    return assemble(loaded.tokenizer, fresh, loaded.device, loaded.dtype, predicts=loaded.prediction_type)


def generate(job: Job) -> list[Picture]:
    """Generate what a job asks for, seeds counted from 0."""
    made_by = models(job.domain, job.trained)
    if job.domain == "music":
        riffusion = Riffusion(made_by)
        return [
            riffusion.picture(clip_request(text, seed), Stages(made_by.device))
            for seed, text in enumerate(job.captions)
        ]
    deforum = Deforum(made_by)
    return [
        next(deforum.frames(frame_request(text, seed), Stages(made_by.device)))
        for seed, text in enumerate(job.captions)
    ]


def clip_request(caption: str, seed: int) -> RiffusionRequest:
    """Ask for a clip at full denoising."""
    return RiffusionInputs(
        prompt_a=caption,
        prompt_b=None,
        alpha=0.5,
        denoising=1.0,
        num_inference_steps=50,
        seed_image_id=SEED_IMAGE,
        seed=seed,
    ).request()


def frame_request(caption: str, seed: int) -> DeforumRequest:
    """Ask for an animation, of which the first frame is made from the prompt alone."""
    return DeforumInputs(
        max_frames=100,
        animation_prompts=f"0: {caption}",
        angle="0:(0)",
        zoom="0:(1)",
        translation_x="0:(0)",
        translation_y="0:(0)",
        color_coherence="None",
        sampler="plms",
        fps=15,
        seed=seed,
    ).request()


def generate_all(domain: str, asked: list[Example]) -> tuple[list[Picture], list[tuple[Example, Picture]]]:
    """Generate every caption with the trained model, and each class's first ones with the untrained one."""
    first = [one for i, one in enumerate(asked) if i % EACH < UNTRAINED_EACH]
    jobs = [
        Job(domain, trained, tuple(one.caption for one in group if one.class_name == name))
        for trained, group in ((True, asked), (False, first))
        for name in classes(domain)
    ]
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        made = list(tqdm(pool.map(generate, jobs), f"generating {domain}", len(jobs)))
    trained, untrained = (list(itertools.chain(*half)) for half in (made[: len(jobs) // 2], made[len(jobs) // 2 :]))
    return trained, list(zip(first, untrained, strict=True))
