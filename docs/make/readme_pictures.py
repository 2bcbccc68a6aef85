"""Make the examples of README and docs: spectrograms with their sounds, and an animation as a strip and as a GIF."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import av
import soundfile
from PIL import Image

from local import ROOT

PICTURES = ROOT / "docs" / "pictures"
SEED = 1
CLIPS = {  # name -> inputs
    "funky-synth-solo": ("prompt_a=funky synth solo",),
    "slow-church-bells": ("prompt_a=slow church bells", "denoising=1"),
    "drums-and-bass": ("prompt_a=drums and bass", "seed_image_id=og_beat", "denoising=0.9"),
}
CLIP_SIDE_PX = 256
WALK = ("prompts=0: church bells | 8: drums and bass | 16: synth lead | 24: synth lead", "bars=24", "output_format=mp3")
WALK_PX = (960, 192)
ANIMATION = (
    "animation_prompts=0: a sunset over the sea | 34: snowy mountains | 67: a night sky with stars",
    "zoom=0:(1.02)",
    "angle=0:(0.5*sin(2*pi*t/50))",
    "color_coherence=None",
)
SONG = ("prompts=0: drums and bass | 2: drums and bass | 4: synth lead", "bars=4")
FILM = (
    "animation_prompts=0: a forest | 4b: snowy mountains | 8b: a sunset over the sea | 12b: a city at night",
    "zoom=0: (1 + 0.06*beat)",
    "angle=0: (2*onset*where(bar % 2 < 1, 1, -1))",
    "strength=0: (0.65 - 0.3*every(4))",
    "color_coherence=None",
    "cadence=3",
)
FILM_FRAMES = tuple(range(0, 154, 17))
STRIP_FRAMES = (0, 12, 24, 36, 48, 60, 72, 84, 96)
STRIP_SIDE_PX = 132
GIF_EVERY, GIF_SIDE_PX, GIF_FRAME_MS = 3, 160, 200


def main() -> None:
    """Run the predictions and write docs/pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spectrograms = []
        for clip, inputs in CLIPS.items():
            predict("riffusion", folder / clip, *inputs)
            write_mp3(folder / clip / f"audio-{SEED}.wav", PICTURES / f"{clip}.mp3")
            spectrograms.append(Image.open(folder / clip / f"spectrogram-{SEED}.png").convert("RGB"))
        row(spectrograms, CLIP_SIDE_PX).save(PICTURES / "riffusion.png", optimize=True)
        predict("walk", folder, *WALK)
        shutil.copy(folder / f"audio-{SEED}.mp3", PICTURES / "walk.mp3")
        walk = Image.open(folder / f"spectrogram-{SEED}.png").convert("RGB")
        walk.resize(WALK_PX, Image.Resampling.LANCZOS).save(PICTURES / "walk.png", optimize=True)
        predict("deforum", folder, *ANIMATION)
        frames = frames_of(folder / f"animation-{SEED}.mp4")
        row([frames[n] for n in STRIP_FRAMES], STRIP_SIDE_PX).save(PICTURES / "deforum.jpg", quality=85)
        write_gif(frames[::GIF_EVERY], PICTURES / "deforum.gif")
        predict("walk", folder / "song", *SONG)
        song = (f"audio={folder}/song/audio-{SEED}.wav", f"timeline={folder}/song/timeline-{SEED}.json")
        predict("music-video", folder, *FILM, *song)
        shutil.copy(folder / f"video-{SEED}.mp4", PICTURES / "music-video.mp4")
        frames = frames_of(PICTURES / "music-video.mp4")
        row([frames[n] for n in FILM_FRAMES], STRIP_SIDE_PX).save(PICTURES / "music-video.jpg", quality=85)


def frames_of(film: Path) -> list[Image.Image]:
    """Return all frames of a film."""
    with av.open(film) as container:
        return [frame.to_image() for frame in container.decode(video=0)]  # type: ignore[no-untyped-call]


def predict(model: str, folder: Path, *inputs: str) -> None:
    """Run script/predict with these inputs and a fixed seed, so that the examples stay the same."""
    options = [word for assignment in inputs for word in ("-i", assignment)]
    command = [str(ROOT / "script" / "predict"), model, *options, "--seed", str(SEED), "-o", str(folder)]
    subprocess.run(command, check=True)


def row(pictures: list[Image.Image], side_px: int) -> Image.Image:
    """Return square pictures next to each other, each `side_px` wide."""
    joined = Image.new("RGB", (side_px * len(pictures), side_px))
    for place, picture in enumerate(pictures):
        joined.paste(shrunk(picture, side_px), (side_px * place, 0))
    return joined


def shrunk(picture: Image.Image, side_px: int) -> Image.Image:
    """Return a square picture scaled down to `side_px`."""
    return picture.resize((side_px, side_px), Image.Resampling.LANCZOS)


def write_mp3(wav: Path, mp3: Path) -> None:
    """Compress a clip."""
    waveform, rate_hz = soundfile.read(wav)
    soundfile.write(mp3, waveform, rate_hz, format="MP3")


def write_gif(frames: list[Image.Image], gif: Path) -> None:
    """Write frames as a small animation that repeats."""
    first, *others = (shrunk(frame, GIF_SIDE_PX) for frame in frames)
    first.save(gif, save_all=True, append_images=others, duration=GIF_FRAME_MS, loop=0, optimize=True)


if __name__ == "__main__":
    main()
