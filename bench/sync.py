"""Measure how a music video follows its sound: the frames' motion, the beat, and the time that the analysis takes.

Run: script/bench sync [--write] [--frames N]. It takes some ten minutes.
"""

import contextlib
import io
import json
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch
from librosa.onset import onset_strength
from numpy.typing import NDArray

from bench import report
from lib.animation.warp import matrix, warp
from lib.audio.beats import Beats, estimate
from lib.audio.features import SAMPLE_RATE_HZ, features
from lib.deforum import Deforum, Frame
from lib.diffusion.models import load
from lib.music_video import film_of
from lib.music_video_request import Inputs
from lib.progress import Stages
from lib.walk import Walk, timeline
from lib.walk_request import Inputs as WalkInputs
from lib.weights import SMALL
from workshop.music.clips import write_band
from workshop.music.parts import perform
from workshop.music.soundfont import LOOP_BEATS

CPU = torch.device("cpu")
WALK = WalkInputs(prompts="0: drums and bass | 4: synth lead", bars=4, num_inference_steps=20, seed=1)
PROMPTS = "0: a forest"  # of what the small model knows, it has most to see move
SIZE_PX = 256
MAX_LAG = 8  # frames
SHIFT_S = 0.3  # of the control
PIECES = ((80, "funk"), (96, "jazz"), (112, "rock"), (128, "techno"), (144, "blues"), (160, "funk"))
PIECE_S = 30.0
NEAR_S = 0.02
NOTES = """
Motion is read from the finished frames: the zoom that makes a frame most like the next one. Onsets are librosa's onset
strength of the film's sound, with librosa's own settings. The lag is where their correlation is largest,
above 0 if the picture follows. The control is a film of the same sound, 0.3 s later. Pieces are 30 s of sampled drums,
bass and a leader. A beat counts as found within 20 ms; an estimate may have the double or half tempo.
"""


@dataclass(frozen=True)
class Sync:
    """How motion follows onsets."""

    lag_frames: int
    correlation: float  # at that lag


def zooms(frames: list[Frame]) -> NDArray[np.float64]:
    """Return how much the picture grew at each frame: the zoom that makes the frame before it most like it."""
    tried = np.linspace(0.98, 1.16, 46)
    inner = np.s_[SIZE_PX // 6 : -SIZE_PX // 6, SIZE_PX // 6 : -SIZE_PX // 6]
    found = [1.0]
    for before, after in pairwise(frames):
        moved = [warp(before, matrix(SIZE_PX, SIZE_PX, 0, zoom, 0, 0))[inner].astype(float) for zoom in tried]
        found.append(tried[np.argmin([np.abs(picture - after[inner]).mean() for picture in moved])])
    return np.array(found)


def onsets(sound: NDArray[np.float32], fps: int, frames: int) -> NDArray[np.float64]:
    """Return librosa's onset strength at each frame: its maximum since the frame before."""
    strength = onset_strength(y=sound, sr=SAMPLE_RATE_HZ)
    times_s = np.arange(len(strength)) * 512 / SAMPLE_RATE_HZ
    place = np.ceil(times_s * fps).astype(int)
    return np.array([strength[place == n].max(initial=0) for n in range(frames)])


def sync(motion: NDArray[np.float64], heard: NDArray[np.float64]) -> Sync:
    """Find the lag at which motion follows onsets best. Frames 0 and 1 are left out: nothing moves before them."""
    found = []
    for lag in range(-MAX_LAG, MAX_LAG + 1):
        later, earlier = motion[2 + max(lag, 0) : len(motion) + min(lag, 0)], heard[2 + max(-lag, 0) :]
        length = min(len(later), len(earlier))
        found.append((float(np.corrcoef(later[:length], earlier[:length])[0, 1]), lag))
    correlation, lag = max(found)
    return Sync(lag, correlation)


def write_walk(folder: Path) -> None:
    """Make a walk, and write its sound and its timeline."""
    request = WALK.request()
    music = Walk(load(SMALL / "riffusion", CPU)).generate(request, Stages(CPU))
    sound = torch.cat(list(music.sound), dim=1)[0].numpy()
    soundfile.write(folder / "walk.wav", sound, SAMPLE_RATE_HZ)
    (folder / "timeline.json").write_text(json.dumps(timeline(request, music.gain)))


def follow(frames: int) -> dict[str, float]:
    """Render a film of a walk with the default recipe, and see how its motion follows the sound."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_walk(folder)
        inputs = Inputs(
            audio=str(folder / "walk.wav"),
            timeline=str(folder / "timeline.json"),
            animation_prompts=PROMPTS,
            max_frames=frames,
            width=SIZE_PX,
            height=SIZE_PX,
            seed=1,
        )
        request = inputs.request()
        stages = Stages(CPU)
        started_s = time.perf_counter()
        made = list(Deforum(load(SMALL / "deforum", CPU)).render(film_of(request), stages))
        rendered_s = time.perf_counter() - started_s
        sound = request.music.cut(frames / inputs.fps)
        assert sound is not None
        late = np.concatenate([np.zeros(round(SHIFT_S * SAMPLE_RATE_HZ), np.float32), sound[0]])[: sound.shape[1]]
    motion = zooms(made)
    found, control = (sync(motion, onsets(heard, inputs.fps, frames)) for heard in (sound[0], late))
    own = sync(request.curves["zoom"], onsets(sound[0], inputs.fps, frames))
    diffused = sum(stages.seconds[stage] for stage in ("encode", "denoise", "decode"))
    return {
        "lag": found.lag_frames,
        "correlation": found.correlation,
        "control lag": control.lag_frames,
        "zoom lag": own.lag_frames,
        "zoom correlation": own.correlation,
        "other ms": 1000 * (rendered_s - diffused) / frames,
    }


def piece(number: int, bpm: float, genre: str) -> NDArray[np.float32]:
    """Return a piece of a genre, (samples,), that begins on a beat."""
    generator = np.random.default_rng(number)
    loops = []
    for _ in range(2):
        parts = write_band(genre, bpm, generator)
        loops.append(np.sum([perform(part, bpm) for part in parts], axis=0))
    count = int(np.ceil(PIECE_S / (LOOP_BEATS * 60 / bpm)))
    joined = np.concatenate([loops[n // 2 % 2] for n in range(count)])[: round(PIECE_S * SAMPLE_RATE_HZ)]
    loud: NDArray[np.float32] = (0.8 * joined / np.abs(joined).max()).astype(np.float32)
    return loud


def found_beats(beats: Beats, bpm: float) -> tuple[float, float]:
    """Return the error of a tempo, or of its double or half, and the share of its beats that are near a real one."""
    ratio = min((beats.bpm / bpm / multiple for multiple in (0.5, 1, 2)), key=lambda ratio: abs(np.log(ratio)))
    beat_s = 60 / max(bpm, beats.bpm) if beats.bpm > 1.5 * bpm else 60 / bpm
    times_s = np.array([beats.time_s(beat) for beat in range(int(PIECE_S * beats.bpm / 60))])
    distance_s = np.abs((times_s + beat_s / 2) % beat_s - beat_s / 2)
    return abs(ratio - 1), float((distance_s < NEAR_S).mean())


def analysis_seconds(sound: NDArray[np.float32]) -> float:
    """Return the processor time that the analysis of three minutes takes, on one core."""
    three_minutes = np.resize(sound, 180 * SAMPLE_RATE_HZ)[None]
    started_s = time.process_time()
    estimate(features(three_minutes))
    return time.process_time() - started_s


def main() -> None:
    """Measure, print, and on request write the section of RESULTS.md."""
    parser = report.parser(__doc__)
    parser.add_argument("--frames", type=int, default=60, help="of the film (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, near, errors = [], [], []
    sound = np.zeros(0, np.float32)
    for number, (bpm, genre) in enumerate(PIECES):
        sound = piece(number, bpm, genre)
        found = estimate(features(sound[None]))
        assert found
        error, share = found_beats(found.beats, bpm)
        rows.append([genre, f"{bpm}", f"{found.beats.bpm:.2f}", f"{share:.0%}", f"{found.confidence:.2f}"])
        near.append(share)
        errors.append(error)
    with contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
        figures = follow(arguments.frames)
    figures |= {"analysis s": analysis_seconds(sound), "beats": min(near), "tempo error": max(errors)}
    lag, late = f"{figures['lag']:.0f}", f"{figures['control lag']:.0f}"
    text = f"""## sync

{report.paragraph(f"Small model. {report.machine()}.")}

{report.markdown_table(["piece", "tempo", "estimated", "beats", "confidence"], rows)}

{report.paragraph(NOTES)}

- A film of a walk with the default inputs follows its onsets by {lag} frames, with a correlation of
  {figures["correlation"]:.2f}; the control's lag is {late} frames. The zoom itself has
  {figures["zoom correlation"]:.2f} at {figures["zoom lag"]:.0f} frames.
- The analysis of three minutes takes {figures["analysis s"]:.1f} s of processor time.
- A frame of {SIZE_PX} pixels takes {figures["other ms"]:.1f} ms besides the model.
"""
    report.publish("sync", text, figures, arguments.write)


if __name__ == "__main__":
    main()
