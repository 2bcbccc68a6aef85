"""Make the seed images anew: python -m workshop.seeds.make [--wav DIR]."""

import argparse
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

from lib.audio.seed_images import SEED_IMAGE_IDS, png_path
from lib.audio.spectrogram import HOP_LENGTH, SAMPLE_RATE_HZ, WINDOW_LENGTH, Analysis, mel_to_image
from workshop.seeds.masks import MASKS, SIZE
from workshop.seeds.songs import SONGS
from workshop.sound.synth import Wave

GENERATOR_SEED = 94
EDGE_COLUMNS = WINDOW_LENGTH // HOP_LENGTH  # no column within the picture sees where the extension ends
PEAK = 0.9


def render(name: str) -> Wave:
    """Play a musical seed: one loop (samples,) with a peak of 0.9."""
    wave = SONGS[name](np.random.default_rng(GENERATOR_SEED))
    return wave * (PEAK / float(np.abs(wave).max()))


def picture(wave: Wave) -> NDArray[np.uint8]:
    """Draw the first 512 columns, (512, 512), of a loop that has been playing and goes on."""
    edge = EDGE_COLUMNS * HOP_LENGTH
    columns = EDGE_COLUMNS + SIZE + EDGE_COLUMNS
    positions = np.arange(-edge, columns * HOP_LENGTH - edge)
    playing = torch.from_numpy(wave[positions % wave.size])[None]
    mel = Analysis()(playing)
    return mel_to_image(mel[..., EDGE_COLUMNS : EDGE_COLUMNS + SIZE])


def draw(name: str) -> NDArray[np.uint8]:
    """Make one seed image, (512, 512) uint8, from its numbers or its notes."""
    return MASKS[name]() if name in MASKS else picture(render(name))


def main() -> None:
    """Write every seed image beside this file, and on request the songs to listen to."""
    parser = argparse.ArgumentParser(description="Make the seed images anew.")
    parser.add_argument("--wav", type=Path, metavar="DIR", help="also write the musical seeds as sound, twice round")
    wav_dir = parser.parse_args().wav
    for name in SEED_IMAGE_IDS:
        Image.fromarray(draw(name)).save(png_path(name), optimize=True)
    if wav_dir:
        wav_dir.mkdir(parents=True, exist_ok=True)
        for name in SONGS:
            soundfile.write(wav_dir / f"{name}.wav", np.tile(render(name), 2), SAMPLE_RATE_HZ, subtype="PCM_16")


if __name__ == "__main__":
    main()
