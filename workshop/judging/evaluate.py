"""Judge the small model on captions it has not seen: `python -m workshop.judging.evaluate [--write] [--only DOMAIN]`.

Each caption is asked of the trained model and of the same parts untrained, at full denoising, and each answer is
measured by what was not learned (workshop.judging.classifier). `--write` replaces RESULTS.md beside it
and the sheets of samples in docs/pictures.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib.diffusion.pipeline import decode, encode, to_model_range
from workshop.judging.generate import EACH, Picture, classes, generate_all, held_out, models
from workshop.judging.classifier import Classifier, music_classifier, picture_classifier
from workshop.judging.music_measures import music_measures
from workshop.judging.picture_measures import centre_colour, ground_colour
from workshop.pictures import shapes
from workshop.pictures.canvas import COLOURS
from workshop.training.dataset import Example, dataset
from workshop.training.denoiser import MODELS

SHEET_EACH, SHEET_SIDE_PX = 4, 160
RESULTS = Path(__file__).with_name("RESULTS.md")
SHEETS = Path(__file__).resolve().parents[2] / "docs" / "pictures"
MEASURES = ("onsets_per_s", "percussive_share", "harmonicity", "pitch_semitones", "level_0_to_120_hz")
MEASURES_NAMES = ("onsets/s", "percussive share", "harmonicity", "pitch, semitones from A4", "level below 120 Hz")
INTRODUCTION = """# The small model

It comes with the repository, in lib/small: for each of the two models a tokenizer, a text encoder, a VAE and a UNet,
10 MB in float16. It is made again by

    python -m workshop.training music             # 7000 clips with captions, autoencoder, tokenizer, text encoder, UNet
    python -m workshop.training pictures          # the same, of 7000 pictures
    python -m workshop.judging.evaluate --write   # this page

each with progress bars, and each going on where it was stopped. `lib/small/README.md` is the model card.

The captions below are not among those trained on, but where a class has too few. Clips and pictures are generated at
full denoising with the default guidance, and judged by measures that are not learned, with a linear discriminant fitted
on renderings (`workshop/judging/classifier.py`). *Untrained* is the same model with random weights."""


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
            f"Of {count} shapes with two colours in their caption, {of_colour} ({of_colour / count:.0%}) have the "
            f"shape's colour and {on_ground} ({on_ground / count:.0%}) the ground's, the nearest of {len(COLOURS)} "
            "named colours."
        )
    if write:
        sheet(made).save(SHEETS / f"small-{domain}.png", optimize=True)
        picture = f"../../docs/pictures/small-{domain}.png"
        text.append(f"![samples]({picture})\n\nA column for each class, in the order above.")
    return "\n\n".join(text)


def written_sections(text: str) -> dict[str, str]:
    """Return the sections of RESULTS.md by their domain, whose name begins each heading."""
    sections = [section.strip() for section in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]]
    return {section.split(maxsplit=2)[1].lower(): section for section in sections}


def main() -> None:
    """Judge both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace RESULTS.md and the sheets of samples")
    parser.add_argument("--only", choices=list(MODELS), help="of this domain; what is written of the other stays")
    asked = parser.parse_args()
    sections = {domain: report_on(domain, asked.write) for domain in MODELS if asked.only in (None, domain)}
    if asked.write:
        written = written_sections(RESULTS.read_text()) | sections
        RESULTS.write_text("\n\n".join([INTRODUCTION, *(written[domain] for domain in MODELS)]) + "\n")
    print("\n\n".join(sections.values()))


if __name__ == "__main__":
    main()
