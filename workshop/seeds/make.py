"""Make the seed images again: python -m workshop.seeds.make [--wav DIR]."""

import argparse
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

from lib.audio.phases import hz_of_mel
from lib.audio.seed_images import SEED_IMAGE_IDS, png_path
from lib.audio.spectrogram import (
    BIN_COUNT,
    FFT_LENGTH,
    HOP_LENGTH,
    MEL_COUNT,
    SAMPLE_RATE_HZ,
    WINDOW_LENGTH,
    mel_to_image,
)
from workshop.music.soundfont import Wave
from workshop.seeds.masks import MASKS, SIZE
from workshop.seeds.songs import SONGS, render

# The loops that sampled instruments play. lib has the former ones, until the music model is trained with these and they
# meet the bounds that tests/lib/audio/test_inverse.py and tests/contract hold the seed images to.
RENDERED = Path(__file__).with_name("rendered")


def picture(wave: Wave) -> NDArray[np.uint8]:
    """Draw the first 512 columns, (512, 512), of a loop in the middle of its repetitions.

    This is `Analysis` in float64, filters included, so that rounding differences between processors change no pixel.
    In float32 they change a few in each picture.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_LENGTH) / WINDOW_LENGTH)
    around = np.arange(WINDOW_LENGTH) - WINDOW_LENGTH // 2
    frames = wave[(np.arange(SIZE)[:, np.newaxis] * HOP_LENGTH + around) % wave.size] * window
    magnitude = np.abs(np.fft.rfft(frames, FFT_LENGTH)[:, :BIN_COUNT])
    mel = magnitude @ filters()
    return mel_to_image(torch.from_numpy(mel.T[np.newaxis].copy()))


def filters() -> NDArray[np.float64]:
    """Return the triangular filters of `mel_filters`, (4001 bins, 512 mels), in float64."""
    border_hz = hz_of_mel(torch.arange(MEL_COUNT + 2, dtype=torch.float64)).numpy()
    low_hz, centre_hz, high_hz = border_hz[:-2], border_hz[1:-1], border_hz[2:]
    bin_hz = np.arange(BIN_COUNT)[:, np.newaxis] * (SAMPLE_RATE_HZ / FFT_LENGTH)
    rise, fall = (bin_hz - low_hz) / (centre_hz - low_hz), (high_hz - bin_hz) / (high_hz - centre_hz)
    triangles: NDArray[np.float64] = np.clip(np.minimum(rise, fall), 0, None)
    return triangles


def draw(name: str) -> NDArray[np.uint8]:
    """Draw a seed image, (512, 512) uint8, from its numbers or its notes."""
    return MASKS[name]() if name in MASKS else picture(render(name))


def main() -> None:
    """Write every seed image, and on request the songs to listen to."""
    parser = argparse.ArgumentParser(description="Make the seed images again.")
    parser.add_argument("--wav", type=Path, metavar="DIR", help="also write the musical seeds as sound, twice each")
    wav_dir = parser.parse_args().wav
    for name in SEED_IMAGE_IDS:
        path = RENDERED / f"{name}.png" if name in SONGS else png_path(name)
        Image.fromarray(draw(name)).save(path, optimize=True)
    if wav_dir:
        wav_dir.mkdir(parents=True, exist_ok=True)
        for name in SONGS:
            soundfile.write(wav_dir / f"{name}.wav", np.tile(render(name), 2), SAMPLE_RATE_HZ, subtype="PCM_16")


if __name__ == "__main__":
    main()
