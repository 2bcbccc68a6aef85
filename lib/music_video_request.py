"""The inputs of a music video, and the request that it is made from. No PyTorch is needed."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lib import prompts
from lib.animation.keyframes import Bounds, Scene
from lib.animation.operations import Values
from lib.animation.soundtrack import LEVELS, Soundtrack
from lib.animation.warp import BORDERS, WRAP
from lib.audio.beats import BEATS_PER_BAR, Beats, estimate
from lib.audio.decode import MAX_MINUTES, Sound, read_whole
from lib.audio.features import SAMPLE_RATE_HZ, Features, by_frame, features
from lib.deforum_request import MAX_FRAMES, MOTION, NO_PROMPTS, AnimationInputs
from lib.diffusion.schedule import MAX_STEPS
from lib.errors import InputProblems, UserError, invalid
from lib.inputs import check_choice, check_integer, check_number
from lib.prompt_weights import EMPTY, Prompt, check_prompt
from lib.prompts import Prompts, Unit

DEFAULT_FRAMES = 100  # without a sound, as in deforum
MIN_SIZE_PX, MAX_SIZE_PX, SIZE_STEP_PX = 256, 1024, 64
MIN_BPM, MAX_BPM = 30.0, 300.0
MAX_CADENCE = 8
MAX_TIMELINE_BEATS = 10_000
# What deforum's recipe fixes, as values by frame.
CURVES = MOTION | {
    "strength": Bounds(low=0, high=1),
    "noise": Bounds(low=0, high=1),
    "guidance_scale": Bounds(low=0, high=30),
}
FRAMES = Unit(negative="move what follows --neg to negative_prompt")


@dataclass(frozen=True)
class Inputs(AnimationInputs):
    """Deforum's inputs and more, with their defaults; unchecked, as a server or a caller provides them."""

    zoom: str = "0: (1.01 + 0.08*onset)"
    max_frames: int | None = None  # 1 to 1000; None: as long as the sound
    audio: str | None = None  # the path of the soundtrack
    audio_start_s: float = 0.0  # where in it the film begins
    bpm: float | None = None  # None: that of the timeline, or estimated
    timeline: str | None = None  # the path of a walk's timeline
    strength: str = "0: (0.65)"  # the share of the schedule that a frame skips: how much of the previous frame stays
    noise: str = "0: (0.02)"  # the sigma of the noise added to each warped frame, whose range is [-1, 1]
    guidance_scale: str = "0: (7)"  # how strongly the prompts steer
    num_inference_steps: int = 50  # of the whole schedule
    negative_prompt: str | None = None  # what to avoid
    init_image: str | None = None  # the path of a picture that frame 0 is made from
    width: int = 512  # pixels, a multiple of 64 from 256 to 1024
    height: int = 512
    border: str = WRAP  # what comes into the picture from outside
    prompt_blend: int = 0  # frames that a prompt takes to replace the one before it
    cadence: int = 1  # every cadence-th frame is diffused, 1 to 8

    def request(self) -> "Request":
        """Check the values, analyse the sound, and return the request.

        Raises:
            UserError: A value is invalid; the error has the problems of all inputs.
        """
        request, problems = self.read()
        problems.raise_any()
        return request

    def read(self) -> tuple["Request", InputProblems]:
        """Return the request and the problems by input. An input with a problem has a substitute for its value."""
        problems = InputProblems()
        check = problems.check
        inputs = self.checked(problems)
        music = self._music(problems)
        frames = music.frames(inputs.fps) if "audio" not in problems.found else MAX_FRAMES
        if self.max_frames is not None:
            frames = check(check_integer, "max_frames", self.max_frames, 1, MAX_FRAMES) or MAX_FRAMES
        inputs = replace(inputs, max_frames=frames, seed=self.checked_seed(problems))
        soundtrack = music.soundtrack(inputs.fps, frames)
        scene = Scene(frames, inputs.seed, soundtrack)
        picture = None
        if self.init_image is not None:
            picture = check(read_picture, "init_image", self.init_image, inputs.width, inputs.height)
        request = Request(
            inputs=inputs,
            prompts=check(
                prompts.parse, "animation_prompts", self.animation_prompts, frames, FRAMES, soundtrack.frame_of
            )
            or NO_PROMPTS,
            negative=check(check_prompt, "negative_prompt", self.negative_prompt or "") or EMPTY,
            curves={name: self.curve(name, scene, problems, bounds) for name, bounds in CURVES.items()},
            music=music,
            soundtrack=soundtrack,
            init=picture,
        )
        return request, problems

    def checked(self, problems: InputProblems) -> "Inputs":
        """Return the inputs; those that are no keyframes and no files are valid or replaced."""
        check = problems.check
        return replace(
            super().checked(problems),
            audio_start_s=check(check_number, "audio_start_s", self.audio_start_s, 0, MAX_MINUTES * 60) or 0.0,
            num_inference_steps=check(check_integer, "num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
            or 1,
            width=check(_check_size, "width", self.width) or MIN_SIZE_PX,
            height=check(_check_size, "height", self.height) or MIN_SIZE_PX,
            border=check(check_choice, "border", self.border, tuple(BORDERS)) or WRAP,
            prompt_blend=check(check_integer, "prompt_blend", self.prompt_blend, 0, MAX_FRAMES) or 0,
            cadence=check(check_integer, "cadence", self.cadence, 1, MAX_CADENCE) or 1,
        )

    def _music(self, problems: InputProblems) -> "Music":
        check = problems.check
        heard_sound = None if self.audio is None else check(_heard, "audio", self.audio)
        sound, heard = heard_sound or (None, None)
        start_s = self.audio_start_s if "audio_start_s" not in problems.found else 0.0
        if heard and start_s >= heard.seconds:
            problems.found["audio_start_s"] = (
                f"audio_start_s is {start_s:g}, but must be below {heard.seconds:.2f}, where the sound ends",
            )
        beats = None
        if self.timeline is not None:
            beats = check(read_timeline, "timeline", self.timeline)
            if self.bpm is not None:
                problems.found["bpm"] = (f"bpm is {self.bpm}, but must be blank, because timeline has the beat",)
        elif self.bpm is not None and (bpm := check(check_number, "bpm", self.bpm, MIN_BPM, MAX_BPM)):
            beats = Beats.regular(bpm)
        return Music.of(sound, heard, start_s, beats)


def _heard(name: str, value: object) -> tuple[Sound, Features]:
    path = Path(str(value))
    try:
        return _analysed(name, path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"{name} is not a sound file that can be read: {error.strerror}") from error


@lru_cache(maxsize=1)  # inputs may be read again with the same sound: to check them first, or for a preview
def _analysed(name: str, path: Path, _changed_ns: int) -> tuple[Sound, Features]:
    sound = read_whole(name, path, SAMPLE_RATE_HZ)
    return sound, features(sound)


def _check_size(name: str, value: object) -> int:
    size = check_integer(name, value, MIN_SIZE_PX, MAX_SIZE_PX)
    if size % SIZE_STEP_PX:
        raise invalid(name, value, f"a multiple of {SIZE_STEP_PX}")
    return size


def read_picture(name: str, value: object, width: int, height: int) -> NDArray[np.uint8]:
    """Return a picture file, (height, width, 3) uint8 RGB, scaled to cover this size and cut at its edges.

    Raises:
        UserError: It is no picture that can be read.
    """
    try:
        with Image.open(str(value)) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            return np.asarray(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise UserError(f"{name} is not a picture that can be read") from error


def read_timeline(name: str, value: object) -> Beats:
    """Return the beats of a walk's timeline, a JSON file, counted from the first beat of the whole walk.

    Raises:
        UserError: It is no such file.
    """
    try:
        content = json.loads(Path(str(value)).read_text(encoding="utf-8"))
        bars = content["bars"]
        times_s = np.array([time_s for bar in bars for time_s in bar["beats_s"]], np.float64)
        beats = Beats(
            times_s, float(bars[0]["bar"]) * len(bars[0]["beats_s"]), float(content["bpm"]), len(bars[0]["beats_s"])
        )
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise UserError(f"{name} is not a walk's timeline: a JSON file with bpm and bars that have beats_s") from error
    ascending = len(times_s) > 1 and np.isfinite(times_s).all() and (np.diff(times_s) > 0).all()
    if not ascending or not MIN_BPM <= beats.bpm <= MAX_BPM or len(times_s) > MAX_TIMELINE_BEATS:
        raise UserError(
            f"{name} must have from 2 to {MAX_TIMELINE_BEATS} ascending beats, "
            f"and a bpm from {MIN_BPM:g} to {MAX_BPM:g}"
        )
    return beats


@dataclass(frozen=True)
class Music:
    """The sound of a film, and what is known of it."""

    sound: Sound | None  # the whole, (1 or 2, samples) at 44.1 kHz
    features: Features | None
    start_s: float  # where in the sound the film begins
    beats: Beats | None
    note: str = ""  # on how the beat was found, for the log

    @classmethod
    def of(cls, sound: Sound | None, heard: Features | None, start_s: float, beats: Beats | None) -> "Music":
        """Add an estimate of the beat if it isn't given."""
        if beats or not heard:
            return cls(sound, heard, start_s, beats)
        found = estimate(heard)
        if not found:
            return cls(sound, heard, start_s, None, "audio has no beat, so b, bar, bpm and beat are 0.")
        return cls(
            sound,
            heard,
            start_s,
            found.beats,
            f"Estimated tempo: {found.beats.bpm:.2f} beats per minute, the first beat at {found.beats.time_s(0):.3f} s "
            f"(confidence {found.confidence:.0%}). Set bpm or timeline if you know better.",
        )

    def frames(self, fps: int) -> int:
        """Return the number of frames that the rest of the sound lasts, at most 1000; without a sound, 100."""
        if not self.features:
            return DEFAULT_FRAMES
        return min(max(math.ceil((self.features.seconds - self.start_s) * fps - 1e-6), 1), MAX_FRAMES)

    def soundtrack(self, fps: int, frames: int) -> Soundtrack:
        """Return what expressions know of the music."""
        beats, heard = self.beats, self.features
        moments_s = self.start_s + np.arange(-1, frames) / fps

        return Soundtrack.of(
            fps,
            beats.position(moments_s) if beats else np.zeros(frames + 1),
            partial(self.frame_of, fps=fps),
            bpm=beats.bpm if beats else 0.0,
            beats_per_bar=beats.beats_per_bar if beats else BEATS_PER_BAR,
            levels={
                name: by_frame(heard.levels[name], fps, self.start_s, frames) if heard else np.zeros(frames)
                for name in LEVELS
            },
        )

    def frame_of(self, position: float, fps: int) -> int:
        """Return the frame that shows a position in beats, the first one at or after it.

        Raises:
            UserError: There is no beat.
        """
        if not self.beats:
            raise UserError("the music has no beat; set audio, bpm or timeline")
        return math.ceil((self.beats.time_s(position) - self.start_s) * fps - 1e-6)

    def cut(self, seconds: float) -> Sound | None:
        """Return the sound of a film, exactly as long; after the sound's end it is silent."""
        if self.sound is None:
            return None
        start, count = round(self.start_s * SAMPLE_RATE_HZ), round(seconds * SAMPLE_RATE_HZ)
        part = self.sound[:, start : start + count]
        return np.pad(part, ((0, 0), (0, count - part.shape[1])))


@dataclass(frozen=True)
class Request:
    """A valid request: every value in its type and range, every string parsed, the sound analysed."""

    inputs: Inputs
    prompts: Prompts
    negative: Prompt
    curves: dict[str, Values]  # those of CURVES, (frames,) each
    music: Music
    soundtrack: Soundtrack
    init: NDArray[np.uint8] | None

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.curves["zoom"])

    @property
    def beats_per_bar(self) -> int:
        """The number of beats in a bar."""
        return self.music.beats.beats_per_bar if self.music.beats else BEATS_PER_BAR

    def notes(self) -> Iterator[str]:
        """Yield what the log should say about the music."""
        heard, seconds = self.music.features, self.frames / self.inputs.fps
        if not heard:
            return
        if self.music.note:
            yield self.music.note
        if heard.silent:
            yield "audio is silent, so onset, amp, low, mid and high are 0."
        rest_s = heard.seconds - self.music.start_s
        if self.frames == MAX_FRAMES and rest_s > seconds:
            yield f"The film ends after {seconds:.1f} of {rest_s:.1f} s, because it has the most frames, {MAX_FRAMES}."

    def described(self) -> dict[str, Any]:
        """Return the inputs for the film's metadata, files by their names."""
        values = {name: value for name, value in asdict(self.inputs).items() if value is not None}
        return values | {
            name: Path(values[name]).name for name in ("audio", "timeline", "init_image") if name in values
        }
