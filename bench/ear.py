"""Measure what a stranger hears in the small model's clips, and in the seed loops: a tagger of real music.

Run: script/bench ear [--write] [--seeds N] [--captions N]. It needs the tagger, and takes about ten minutes:
.venv/bin/uv pip install --python .venv/bin/python --no-deps -r bench/ear.requirements.txt
"""

import argparse
import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bench import report
from bench.tagger import tags
from lib.audio.seed_images import MUSICAL_SEEDS, load
from lib.audio.spectrogram import SAMPLE_RATE_HZ
from lib.diffusion import models
from lib.progress import Stages
from lib.riffusion import Riffusion
from lib.riffusion_request import Inputs
from lib.weights import SMALL
from workshop.music import clips

CPU = torch.device("cpu")
FIRST = 5  # tags that count
SYNTHETIC = ("synth", "electronic", "techno", "dance", "beat")
BELLS = ("slow", "quiet")  # the tagger has no word for bells
DRUMS = ("drums", "drum", "beat", "beats")
# Ten prompts, each with the tags of which one is to be heard, and the share of the seed image that is replaced.
PROMPTS: dict[str, tuple[tuple[str, ...], float]] = {
    "funky synth solo": (("synth", "electronic", "techno"), 0.75),
    "church bells": (BELLS, 1.0),
    "piano": (("piano",), 1.0),
    "guitar": (("guitar",), 1.0),
    "violin": (("violin",), 1.0),
    "flute": (("flute",), 1.0),
    "drums": (("drums",), 1.0),
    "harp": (("harp",), 1.0),
    "choir": (("choir", "choral"), 1.0),
    "techno": (("techno", "electronic"), 1.0),
}
# The instruments that the tagger has a word for.
HEARD_AS: dict[str, tuple[str, ...]] = {
    "piano": ("piano",),
    "acoustic guitar": ("guitar",),
    "electric guitar": ("guitar", "rock"),
    "violin": ("violin",),
    "cello": ("cello", "violin"),
    "strings": ("strings", "violin"),
    "harp": ("harp",),
    "choir": ("choir", "choral"),
    "flute": ("flute",),
    "synth lead": SYNTHETIC,
    "synth pad": ("synth", "electronic", "ambient"),
    "synth bass": SYNTHETIC,
    "church bells": BELLS,
    "drums": DRUMS,
    "hip hop drums": DRUMS,
}
FIRST_CAPTION_SEED = 20_000_000  # beyond those of the training


def heard(waveform: NDArray[np.float32]) -> list[str]:
    """Return the tags of a clip that is played twice, the likeliest first."""
    return tags(np.tile(waveform, 2), SAMPLE_RATE_HZ)


def tags_of(musician: Riffusion, prompt: str, seeds: Sequence[int], denoising: float) -> list[list[str]]:
    """Generate a clip for each seed and return its tags."""
    inputs = Inputs(prompt_a=prompt, denoising=denoising)
    requests = [replace(inputs, seed=seed).request() for seed in seeds]
    with contextlib.redirect_stdout(io.StringIO()):
        return [heard(musician.generate(request, Stages(CPU)).waveform[0].numpy()) for request in requests]


def met(lists: Sequence[Sequence[str]], words: Sequence[str]) -> int:
    """Count the clips with one of these words among the first tags."""
    return sum(any(word in words for word in tagged[:FIRST]) for tagged in lists)


def caption_share(musician: Riffusion, captions: int) -> tuple[dict[str, int], int]:
    """Return for each instrument how many of its held-out captions are heard, and how many captions each has."""
    counts = {}
    for name, words in tqdm(HEARD_AS.items(), "captions"):
        seeds = range(captions)
        texts = [clips.compose(FIRST_CAPTION_SEED + seed, name).caption for seed in seeds]
        lists = [tags_of(musician, text, [seed], 1.0)[0] for seed, text in zip(seeds, texts, strict=True)]
        counts[name] = met(lists, words)
    return counts, captions


def section(prompts: dict[str, list[list[str]]], seeds: dict[str, list[str]], share: str) -> str:
    """Return the section of RESULTS.md."""
    rows = []
    for prompt, lists in prompts.items():
        words, denoising = PROMPTS[prompt]
        rows.append(
            [
                prompt,
                f"{denoising:g}",
                ", ".join(words),
                f"{met(lists, words)} of {len(lists)}",
                ", ".join(lists[0][:FIRST]),
            ]
        )
    seed_rows = [[name, ", ".join(tagged[:FIRST])] for name, tagged in seeds.items()]
    about = f"""What musicnn, a tagger trained on real music, hears in clips of the small model (50 steps): the first
    {FIRST} of its 50 tags count. {report.machine()}. {share}"""
    header = ["prompt", "denoising", "expected", "heard in", "first tags, seed 0"]
    return f"""## Ear

{report.paragraph(about)}

{report.markdown_table(header, rows)}

{report.markdown_table(["seed loop", "first tags"], seed_rows)}
"""


def main() -> None:
    """Measure, print, and on request write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
    parser.add_argument("--seeds", type=int, default=10, help="clips for each prompt")
    parser.add_argument("--captions", type=int, default=4, help="captions for each instrument")
    arguments = parser.parse_args()
    musician = Riffusion(models.load(SMALL / "riffusion", CPU))
    seeds = {name: heard(musician.sound(load(name), 0)[0].numpy()) for name in MUSICAL_SEEDS}
    prompts = {}
    for prompt, (words, denoising) in PROMPTS.items():
        prompts[prompt] = tags_of(musician, prompt, range(arguments.seeds), denoising)
        print(f"{prompt}: {met(prompts[prompt], words)}; {[tagged[:FIRST] for tagged in prompts[prompt]]}", flush=True)
    counts, captions = caption_share(musician, arguments.captions)
    total = sum(counts.values()) / max(captions * len(counts), 1)
    missed = ", ".join(f"{name} {count}" for name, count in counts.items() if count < captions)
    share = (
        f"Of {captions * len(counts)} captions of instruments that it has a word for, {total:.0%} are heard as theirs"
    )
    text = section(prompts, seeds, f"{share} (of {captions} each: {missed or 'all'}).")
    print(text)
    if arguments.write:
        report.write_section("ear", text)
    print(report.key_values({"captions_heard": total, "funky_synth_solo": met(prompts["funky synth solo"], SYNTHETIC)}))


if __name__ == "__main__":
    main()
