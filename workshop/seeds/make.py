"""Make the seed images anew: python -m workshop.seeds.make [--wav DIR]."""

import argparse
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

from lib.audio.seed_images import SEED_IMAGE_IDS, png_path
from lib.audio.spectrogram import (
    BIN_COUNT,
    FFT_LENGTH,
    HOP_LENGTH,
    SAMPLE_RATE_HZ,
    WINDOW_LENGTH,
    mel_filters,
    mel_to_image,
)
from workshop.seeds.masks import MASKS, SIZE
from workshop.seeds.songs import SONGS
from workshop.sound.synth import Wave

GENERATOR_SEED = 94
PEAK = 0.9


def render(name: str) -> Wave:
    """Play a musical seed: one loop (samples,) with a peak of 0.9."""
    wave = SONGS[name](np.random.default_rng(GENERATOR_SEED))
    return wave * (PEAK / float(np.abs(wave).max()))


def picture(wave: Wave) -> NDArray[np.uint8]:
    """Draw the first 512 columns, (512, 512), of a loop that has been playing and goes on.

    It is `Analysis` in float64. In float32 the last bits, which another processor's FFT makes otherwise, turn the
    rounding of many pale pixels; so only those turn whose level lies within a millionth of a half.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_LENGTH) / WINDOW_LENGTH)
    around = np.arange(WINDOW_LENGTH) - WINDOW_LENGTH // 2
    frames = wave[(np.arange(SIZE)[:, np.newaxis] * HOP_LENGTH + around) % wave.size] * window
    magnitude = np.abs(np.fft.rfft(frames, FFT_LENGTH)[:, :BIN_COUNT])
    mel = magnitude @ mel_filters().double().numpy()
    return mel_to_image(torch.from_numpy(mel.T[np.newaxis].copy()))


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
