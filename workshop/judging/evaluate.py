"""Judge the small model on captions it has not seen: `python -m workshop.judging.evaluate [--write]`.

Each caption is asked of the trained model and of the same parts untrained, at full denoising, and each answer is
measured by what was not learned (workshop.judging.classifier). `--write` replaces RESULTS.md beside it
and the sheets of samples in docs/pictures.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from lib.deforum import Deforum
from lib.deforum_request import Inputs as DeforumInputs
from lib.deforum_request import Request as DeforumRequest
from lib.diffusion.models import Models, load
from lib.diffusion.pipeline import decode, encode, to_model_range
from lib.progress import Stages
from lib.riffusion import Riffusion
from lib.riffusion_request import Inputs as RiffusionInputs
from lib.riffusion_request import Request as RiffusionRequest
from lib.weights import SMALL
from workshop.judging.classifier import Classifier, music_classifier, picture_classifier
from workshop.judging.music_measures import music_measures
from workshop.judging.picture_measures import centre_colour, ground_colour
from workshop.music import clips
from workshop.pictures import paintings, shapes
from workshop.pictures.canvas import COLOURS
from workshop.training import architecture
from workshop.training.dataset import Example, dataset, render
from workshop.training.denoiser import MODELS

HELD_OUT_SEED = 20_000_000  # beyond those of the training and of the measures
EACH, UNTRAINED_EACH = 10, 3  # captions of each class
TRIES = 500
SHEET_EACH, SHEET_SIDE_PX = 4, 160
RESULTS = Path(__file__).with_name("RESULTS.md")
SHEETS = Path(__file__).resolve().parents[2] / "docs" / "pictures"
MEASURES = ("onsets_per_s", "percussive_share", "harmonicity", "pitch_semitones", "level_0_to_120_hz")
MEASURES_NAMES = ("onsets/s", "percussive share", "harmonicity", "pitch, semitones from A4", "level below 120 Hz")
SEED_IMAGE = "og_beat"
UNTRAINED_SEED = 0
INTRODUCTION = """# The small model

It comes with the repository, in lib/small: for each of the two models a tokenizer, a text encoder, a VAE and a UNet,
10 MB in float16. It is made again by

    python -m workshop.training.dataset                              # 7000 clips and 7000 pictures with captions
    python -m workshop.training.autoencoder music                    # and pictures
    python -m workshop.training.denoiser music                      # and pictures: tokenizer, text encoder and UNet
    python -m workshop.judging.evaluate --write                     # this page

each with a progress bar, and each going on where it was stopped. On two CPU cores with bfloat16, a domain on each, that
takes an hour and a half. What was done otherwise for the weights that are here, `lib/small/README.md` says.

The captions below are not among those trained on, but where a class has too few. Clips and pictures are generated at
full denoising with the default guidance, and judged by measures that are not learned, with a linear discriminant fitted
on renderings (`workshop/judging/classifier.py`). *Untrained* is the same model with random weights."""

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
    if not trained:
        with torch.random.fork_rng():
            torch.manual_seed(UNTRAINED_SEED)
            fresh = {
                "text_encoder": architecture.text_encoder(loaded.tokenizer),
                "vae": architecture.vae(),
                "unet": architecture.unet(),
            }
        for name, part in fresh.items():
            getattr(loaded, name).load_state_dict(part.state_dict())
    return loaded


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


def nearest(classifier: Classifier, asked: list[Example], made: list[Picture]) -> list[tuple[str, str]]:
    """Return for each picture the class that was asked for and the one it is nearest to."""
    return [(one.class_name, classifier.nearest_class(picture)) for one, picture in zip(asked, made, strict=True)]


def share(named: list[tuple[str, str]]) -> float:
    """Return how many are nearest to the class that was asked for, in percent."""
    return 100 * float(np.mean([wanted == found for wanted, found in named]))


def accuracy_table(trained: list[tuple[str, str]], untrained: list[tuple[str, str]]) -> str:
    """Return how often each class was met, and what it was taken for otherwise."""
    rows = []
    for name in dict.fromkeys(wanted for wanted, _ in trained):
        own, random = ([pair for pair in named if pair[0] == name] for named in (trained, untrained))
        others = Counter(found for _, found in own if found != name)
        taken_for = ", ".join(f"{other} {count}" for other, count in others.most_common())
        rows.append((name, f"{share(own):.0f} %", f"{share(random):.0f} %", taken_for))
    rows.append(("all", f"{share(trained):.0f} %", f"{share(untrained):.0f} %", ""))
    return table(("asked for", "nearest to it", "untrained", "else nearest to"), rows)


def measures_table(asked: list[Example], made: list[Picture], untrained: list[tuple[Example, Picture]]) -> str:
    """Return the means of some measures, of the clips the captions were written for and of the generated ones."""
    rows = []
    for name in classes("music"):
        groups = (
            [one.picture for one in asked if one.class_name == name],
            [picture for one, picture in zip(asked, made, strict=True) if one.class_name == name],
            [picture for one, picture in untrained if one.class_name == name],
        )
        measured = [[music_measures(picture) for picture in group] for group in groups]
        means = [{key: np.mean([one[key] for one in group]) for key in MEASURES} for group in measured]
        rows.append((name, *(" / ".join(f"{mean[key]:.2f}" for mean in means) for key in MEASURES)))
    return table(("asked for", *MEASURES_NAMES), rows)


def colours_met(asked: list[Example], made: list[Picture]) -> tuple[int, int, int]:
    """Count the shapes whose caption names two colours, and how many of them are of the first, and on the second."""
    count = shape_colours = ground_colours = 0
    for one, picture in zip(asked, made, strict=True):
        words = [word for word in one.caption.replace(",", "").split() if word in COLOURS]
        if one.class_name not in shapes.NAMES or len(words) != 2:
            continue
        count += 1
        shape_colours += colour_name(centre_colour(picture)) == words[0]
        ground_colours += colour_name(ground_colour(picture)) == words[1]
    return count, shape_colours, ground_colours


def colour_name(lab: NDArray[np.float32]) -> str:
    """Return the name of the nearest colour, by CIE76."""
    return min(COLOURS, key=lambda name: float(np.linalg.norm(shapes.lab(COLOURS[name]) - lab)))


def reconstruction(asked: list[Example], domain: str) -> tuple[float, float]:
    """Return the autoencoder's mean absolute error in levels and its PSNR in dB, on pictures it has not seen."""
    loaded = models(domain, trained=True)
    errors = []
    for one in asked[:: EACH // 2]:
        rgb = to_rgb(one.picture)
        errors.append(decode(loaded, encode(loaded, to_model_range(rgb)).mean).astype(float) - rgb)
    return float(np.abs(errors).mean()), float(20 * np.log10(255 / np.sqrt(np.square(errors).mean())))


def to_rgb(picture: Picture) -> Picture:
    """Return a grey or RGB picture as RGB."""
    return picture if picture.ndim == 3 else np.repeat(picture[:, :, np.newaxis], 3, axis=2)


def sheet(made: list[Picture]) -> Image.Image:
    """Return the first pictures of each class, a column for each class."""
    columns = [
        np.concatenate([thumbnail(picture) for picture in made[start : start + SHEET_EACH]])
        for start in range(0, len(made), EACH)
    ]
    return Image.fromarray(np.concatenate(columns, axis=1))


def thumbnail(picture: Picture) -> Picture:
    """Return a picture at the size and in the colours of a sheet, with a rim."""
    small = cv2.resize(to_rgb(picture), (SHEET_SIDE_PX - 4, SHEET_SIDE_PX - 4), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.copyMakeBorder(small, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)))


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report_on(domain: str, write: bool) -> str:
    """Judge a domain's model, and return what is to be said of it."""
    seen = set(dataset(domain).captions)
    asked = held_out(domain, seen, classes(domain))
    made, untrained = generate_all(domain, asked)
    classifier = music_classifier() if domain == "music" else picture_classifier()
    named = nearest(classifier, asked, made)
    named_unseen = [pair for one, pair in zip(asked, named, strict=True) if one.caption not in seen]
    real = nearest(classifier, asked, [one.picture for one in asked])
    named_untrained = nearest(classifier, [one for one, _ in untrained], [picture for _, picture in untrained])
    levels, psnr_db = reconstruction(asked, domain)
    text = [
        f"## {domain.capitalize()} ({MODELS[domain]})",
        (
            f"Nearest to the class asked for: **{share(named):.0f} %** of {len(asked)} captions, "
            f"{share(named_unseen):.0f} % of the {len(named_unseen)} that were not trained on; untrained "
            f"{share(named_untrained):.0f} % of {len(untrained)}; the renderings the captions were written for "
            f"{share(real):.0f} %."
        ),
        accuracy_table(named, named_untrained),
        f"The autoencoder's mean error on pictures it has not seen: {levels:.2f} of 255 levels, PSNR {psnr_db:.1f} dB.",
    ]
    if domain == "music":
        text += [
            "Means of the clips the captions were written for / of the generated ones / of the untrained model's:",
            measures_table(asked, made, untrained),
        ]
    else:
        count, of_colour, on_ground = colours_met(asked, made)
        text.append(
            f"Of {count} shapes with two colours in their caption, {of_colour} have the shape's colour and "
            f"{on_ground} the ground's, the nearest of {len(COLOURS)} named colours."
        )
    if write:
        sheet(made).save(SHEETS / f"small-{domain}.png", optimize=True)
        picture = f"../../docs/pictures/small-{domain}.png"
        text.append(f"![samples]({picture})\n\nA column for each class, in the order above.")
    return "\n\n".join(text)


def main() -> None:
    """Judge both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace RESULTS.md and the sheets of samples")
    write = parser.parse_args().write
    sections = [report_on(domain, write) for domain in MODELS]
    if write:
        RESULTS.write_text("\n\n".join([INTRODUCTION, *sections]) + "\n")
    print("\n\n".join(sections))


if __name__ == "__main__":
    main()
