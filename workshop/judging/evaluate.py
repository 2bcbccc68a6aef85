"""Judge a small model on captions that it has not seen: `python -m workshop.judging.evaluate DOMAIN [--write]`.

Each caption is generated at full denoising, and each result is measured by `workshop.judging.judge`. `--write` replaces
the domain's page in this folder and its sheet of samples in docs/pictures.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from lib.deforum import Deforum
from lib.deforum_request import Inputs as DeforumInputs
from lib.diffusion.models import Models, load
from lib.progress import Stages
from lib.riffusion import Riffusion
from lib.riffusion_request import Inputs as RiffusionInputs
from lib.weights import SMALL
from workshop.examples import Example
from workshop.judging.judge import Picture, grid_power, judge_of, to_lab
from workshop.pictures import shapes
from workshop.pictures.canvas import COLOURS
from workshop.training.dataset import CLASSES, MODELS, caption_of, dataset, render

HELD_OUT_SEED = 20_000_000  # beyond those of the training and of the judge
EACH = 10  # captions of each class
TRIES = 300
SHEET_EACH, SHEET_SIDE_PX = 4, {"music": 112, "pictures": 160}
HERE = Path(__file__).resolve().parent
SHEETS = HERE.parents[1] / "docs" / "pictures"


def held_out(domain: str, seen: Set[str], class_names: Iterable[str], tries: int = TRIES) -> list[Example]:
    """Render EACH examples of every class, with captions that are not in `seen` as far as there are any."""
    chosen: list[Example] = []
    for name in class_names:
        captions: dict[str, int] = {}
        for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + tries):
            captions.setdefault(caption_of(domain, seed, name), seed)
            if len(captions.keys() - seen) == EACH:
                break
        unseen_first = sorted(captions, key=seen.__contains__)
        chosen += [render(domain, captions[caption], name) for caption in unseen_first[:EACH]]
    return chosen


@lru_cache
def models(domain: str) -> Models:
    """Load the small model of a domain."""
    return load(SMALL / MODELS[domain], torch.device("cpu"))


def generate(domain: str, captions: Sequence[str]) -> list[Picture]:
    """Generate a clip's picture or an animation's first frame for each caption, at full denoising, seeds from 0."""
    loaded = models(domain)
    stages = Stages(loaded.device)
    if domain == "music":
        clip = RiffusionInputs(denoising=1.0, num_inference_steps=50, seed_image_id="og_beat")
        requests = (replace(clip, prompt_a=text, seed=seed).request() for seed, text in enumerate(captions))
        return [Riffusion(loaded).picture(request, stages) for request in requests]
    frame = DeforumInputs(zoom="0:(1)", color_coherence="None", sampler="plms")
    animations = (replace(frame, animation_prompts=f"0: {text}", seed=seed) for seed, text in enumerate(captions))
    return [next(Deforum(loaded).frames(animation.request(), stages)) for animation in animations]


def generate_all(domain: str, examples: Sequence[Example]) -> list[Picture]:
    """Generate every example's caption, class by class in parallel."""
    groups = [[one.caption for one in examples if one.class_name == name] for name in CLASSES[domain]]
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        made = pool.map(partial(generate, domain), groups)
        return list(itertools.chain.from_iterable(tqdm(made, f"generating {domain}", len(groups))))


def share(named: Sequence[tuple[str, str]]) -> float:
    """Return how many are nearest to their own class, in percent."""
    return 100 * float(np.mean([wanted == found for wanted, found in named]))


def accuracy_table(named: Sequence[tuple[str, str]]) -> str:
    """Return how often each class was met, and what it was mistaken for."""
    rows = []
    for name in dict.fromkeys(wanted for wanted, _ in named):
        own = [pair for pair in named if pair[0] == name]
        mistaken = Counter(found for _, found in own if found != name)
        rows.append((name, f"{share(own):.0f} %", ", ".join(f"{other} {n}" for other, n in mistaken.most_common())))
    lines = [("requested", "nearest to it", "else nearest to"), ("---",) * 3, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def colours_met(examples: Sequence[Example], made: Sequence[Picture]) -> tuple[int, int, int]:
    """Count the shapes whose caption names two colours, those of the first colour, and those on the second."""
    count = shape_colours = background_colours = 0
    for one, picture in zip(examples, made, strict=True):
        words = [word for word in one.caption.replace(",", "").split() if word in COLOURS]
        if one.class_name not in shapes.NAMES or len(words) != 2:
            continue
        lab = to_lab(picture, 96)
        corners = np.concatenate([lab[:8], lab[-8:]])
        background = np.concatenate([corners[:, :8], corners[:, -8:]])
        count += 1
        shape_colours += colour_name(lab[40:56, 40:56]) == words[0]
        background_colours += colour_name(background) == words[1]
    return count, shape_colours, background_colours


def colour_name(lab: NDArray[np.float32]) -> str:
    """Return the name of the colour that is nearest to a region's median, by CIE76."""
    median = np.median(lab.reshape(-1, 3), axis=0)
    return min(COLOURS, key=lambda name: float(np.linalg.norm(shapes.lab(COLOURS[name]) - median)))


def sheet(domain: str, made: Sequence[Picture]) -> Image.Image:
    """Return the first pictures of each class, a column for each class."""
    side_px = SHEET_SIDE_PX[domain]

    def thumbnail(picture: Picture) -> Picture:
        rgb = picture if picture.ndim == 3 else np.repeat(picture[:, :, np.newaxis], 3, axis=2)
        small = cv2.resize(rgb, (side_px - 4, side_px - 4), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.copyMakeBorder(small, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)))

    columns = [
        np.concatenate([thumbnail(picture) for picture in made[start : start + SHEET_EACH]])
        for start in range(0, len(made), EACH)
    ]
    return Image.fromarray(np.concatenate(columns, axis=1))


def report_on(domain: str, examples: Sequence[Example], made: Sequence[Picture], seen: Set[str]) -> str:
    """Judge what was made of the examples' captions and return the domain's page."""
    judge = judge_of(domain)
    named = [(one.class_name, judge.nearest_class(picture)) for one, picture in zip(examples, made, strict=True)]
    named_unseen = [pair for one, pair in zip(examples, named, strict=True) if one.caption not in seen]
    renderings = [(one.class_name, judge.nearest_class(one.picture)) for one in examples]
    text = [
        f"# The small model of {domain}",
        "Written by `python -m workshop.judging.evaluate`; the model card is `lib/small/README.md`.",
        (
            f"Nearest to the requested class: **{share(named):.0f} %** of {len(named)} captions, "
            f"{share(named_unseen):.0f} % of the {len(named_unseen)} that were not trained on. The judge puts "
            f"{share(renderings):.0f} % of the renderings of these captions in their own class."
        ),
        accuracy_table(named),
    ]
    if domain == "pictures":
        count, of_colour, on_background = colours_met(examples, made)
        grids = (f"{np.median([grid_power(one, period_px) for one in made]):.1f}" for period_px in (8, 16, 32))
        real = np.median([grid_power(one.picture) for one in examples])
        text += [
            (
                f"Of {count} shapes with two colours in their caption, {of_colour} have the shape's colour and "
                f"{on_background} the background's: the nearest of {len(COLOURS)} named colours."
            ),
            (
                "Grid: the power of the gradients' profile at multiples of 1/8, 1/16 and 1/32 cycles per pixel over "
                f"its power elsewhere, medians: {', '.join(grids)}; renderings have {real:.1f} at 1/16."
            ),
        ]
    picture = f"../../docs/pictures/small-{domain}.png"
    return "\n\n".join([*text, f"![samples]({picture})", "A column for each class, in the order above."])


def main() -> None:
    """Judge a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain", choices=list(MODELS))
    parser.add_argument("--write", action="store_true", help="replace the domain's page and sheet of samples")
    arguments = parser.parse_args()
    domain = arguments.domain
    seen = set(dataset(domain).captions)
    examples = held_out(domain, seen, CLASSES[domain])
    made = generate_all(domain, examples)
    text = report_on(domain, examples, made, seen)
    if arguments.write:
        sheet(domain, made).save(SHEETS / f"small-{domain}.png", optimize=True)
        (HERE / f"{domain}.md").write_text(f"{text}\n")
    print(text)


if __name__ == "__main__":
    main()
