"""Make the README's pictures: a spectrogram, and a strip of an animation's frames."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
STRIP_FRAMES = (0, 12, 24, 36, 49, 61, 73, 85)
STRIP_WIDTH_PX = 1200


def main() -> None:
    """Run both predictions and write docs/pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        predict("riffusion", folder, "seed_image_id=motorway", "denoising=0")
        shutil.copy(folder / "spectrogram.png", PICTURES / "riffusion.png")
        predict(
            "deforum",
            folder,
            "animation_prompts=0: a red circle | 50: a blue square",
            "zoom=0:(1+0.02*sin(2*pi*t/50))",
            "angle=0:(2)",
            "sampler=euler_ancestral",
            "seed=1",
        )
        strip(folder / "animation.mp4").save(PICTURES / "deforum.jpg", quality=85)


def predict(model: str, folder: Path, *inputs: str) -> None:
    """Run script/predict with these inputs."""
    options = [word for assignment in inputs for word in ("-i", assignment)]
    environment = {**os.environ, "RIFFUSION_SEED": "1"}  # so that the same pictures come out
    subprocess.run([ROOT / "script" / "predict", model, *options, "-o", folder], check=True, env=environment)


def strip(video: Path) -> Image.Image:
    """Return some frames of a video side by side."""
    with av.open(video) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    row = Image.fromarray(np.concatenate([frames[n] for n in STRIP_FRAMES], axis=1))
    return row.resize((STRIP_WIDTH_PX, STRIP_WIDTH_PX // len(STRIP_FRAMES)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
