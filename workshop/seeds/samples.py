"""Make what the page shows and plays of each seed: a small picture and its sound, from the seed images as they are."""

from pathlib import Path

import soundfile
import torch
from PIL import Image

from lib.audio.inverse import Synthesis
from lib.audio.loudness import level
from lib.audio.seed_images import SEED_IMAGE_IDS, load
from lib.audio.spectrogram import SAMPLE_RATE_HZ, image_to_mel

FOLDER = Path(__file__).resolve().parents[2] / "web" / "models" / "riffusion" / "seeds"
GENERATOR_SEED = 94  # of the sounds' phases
SIDE_PX = 128
WEBP_QUALITY = 40
MP3_SMALLNESS = 0.87  # of 0 to 1, which gives constant 64 kbit/s in mono


def main() -> None:
    """Write a picture and a sound for every seed."""
    FOLDER.mkdir(exist_ok=True)
    synthesis = Synthesis()
    for name in SEED_IMAGE_IDS:
        pixels = load(name)
        picture = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
        picture.save(FOLDER / f"{name}.webp", quality=WEBP_QUALITY, method=6)
        generator = torch.Generator().manual_seed(GENERATOR_SEED)
        waveform = level(synthesis(image_to_mel(pixels), generator))[0].numpy()
        soundfile.write(
            FOLDER / f"{name}.mp3",
            waveform,
            SAMPLE_RATE_HZ,
            format="MP3",
            bitrate_mode="CONSTANT",
            compression_level=MP3_SMALLNESS,
        )


if __name__ == "__main__":
    main()
