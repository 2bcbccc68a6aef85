"""Render the training data, to workshop/work."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from workshop.examples import Example
from workshop.music import clips
from workshop.pictures import paintings

WORK = Path(__file__).resolve().parents[1] / "work"
MODELS = {"music": "riffusion", "pictures": "deforum"}
CLASSES = {"music": clips.CLASSES, "pictures": paintings.CLASSES}  # those that are judged
COUNTS = {"music": 3200, "pictures": 4800}
CHUNK = 50  # examples that one process renders at a time


class Dataset(NamedTuple):
    """The rendered pictures (examples, 512, 512) or (examples, 512, 512, 3) uint8, on disk, and their captions."""

    pictures: NDArray[np.uint8]
    captions: list[str]


def render(domain: str, seed: int, class_name: str | None = None) -> Example:
    """Render the example of a seed of `domain`, "music" or "pictures", of a class if one is named."""
    return (clips.clip if domain == "music" else paintings.picture)(seed, class_name)


def caption_of(domain: str, seed: int, class_name: str) -> str:
    """Return the caption of a seed's example, which for music takes a hundredth of the time."""
    return (clips.compose if domain == "music" else paintings.picture)(seed, class_name).caption


@lru_cache
def dataset(domain: str) -> Dataset:
    """Open the data of `domain`, "music" or "pictures", rendered first if it is not there."""
    images, captions = WORK / f"{domain}.npy", WORK / f"{domain}.json"
    if not captions.exists():  # it is written last
        _render_all(domain, images, captions)
    return Dataset(np.load(images, mmap_mode="r"), json.loads(captions.read_text()))


def _render_all(domain: str, images: Path, captions: Path) -> None:
    WORK.mkdir(exist_ok=True)
    count = COUNTS[domain]
    shape = (count, *render(domain, 0).picture.shape)
    written = np.lib.format.open_memmap(images, mode="w+", dtype=np.uint8, shape=shape)
    texts: list[str] = []
    starts = range(0, count, CHUNK)
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        chunks = pool.map(partial(_render_chunk, domain), starts)
        for start, chunk in zip(starts, tqdm(chunks, f"rendering {domain}", len(starts)), strict=True):
            written[start : start + CHUNK] = [example.picture for example in chunk]
            texts += [example.caption for example in chunk]
    written.flush()
    captions.write_text(json.dumps(texts))


def _render_chunk(domain: str, start: int) -> list[Example]:
    return [render(domain, seed) for seed in range(start, start + CHUNK)]
