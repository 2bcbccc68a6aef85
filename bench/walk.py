"""Measure walks of the small model: joins, grid, the way from prompt to prompt, parts, time and memory.

Run: script/bench walk [--write] [--seeds N] [--steps N]. It needs the tagger of `script/bench ear`, and takes about
half an hour.
"""

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, correlate, sosfiltfilt
from scipy.stats import spearmanr
from tqdm import tqdm

from bench import report
from bench.tagger import embedding
from lib.audio.seed_images import load as seed_image
from lib.audio.spectrogram import HOP_LENGTH, SAMPLE_RATE_HZ, Analysis
from lib.diffusion.models import load
from lib.progress import Stages
from lib.riffusion import Riffusion
from lib.riffusion_request import Inputs as ClipInputs
from lib.walk import Walk, sample_of
from lib.walk_request import BEAT_S, CLIP_BARS, CLIP_SAMPLES, Inputs
from lib.weights import SMALL

HEADER = ["", "flux", "worst", "treble", "bars", "away", "towards", "largest step"]
NOTES = """
Flux is the largest change within 50 ms at the border of two clips, relative to the 95th percentile of all changes
elsewhere. Treble is the energy above 11 kHz there, where a click is heard, relative to the whole. Bars is the largest
step in loudness between neighbouring bars while a prompt holds. Away and towards are rank correlations (Spearman)
of the time with the distance from the first and to the last prompt in the last layer of a tagger of real music
(musicnn); the largest step between neighbouring bars there is relative to the mean step. One seed and fresh seeds are
riffusion's clips played one after the other; the seed image is the loop that all of them start from.
"""
CPU = torch.device("cpu")
# Each route holds its first prompt for four bars, blends for eight, and holds the second.
ROUTES = (("church bells", "drums and bass"), ("flute", "guitar"))
BARS, HOLD_BARS = 16, 4
LAG = 5  # columns of 10 ms that a flux looks back
NEAR = 8  # columns around a border that belong to it: as far as the analysis sees
GRID_BARS = 72  # three minutes
MIN_LAG_S, MAX_LAG_S = 0.75 * BEAT_S, 6.0  # of a repetition, at most a clip; any sound is like itself at shorter lags

Sound = NDArray[np.float32]


def quietly(make: Callable[[], Any]) -> Any:
    """Run something without its log."""
    with contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
        return make()


def walked(walk: Walk, inputs: Inputs) -> tuple[Sound, NDArray[np.uint8]]:
    """Return the sound (samples,) and the picture of a walk."""
    music = quietly(lambda: walk.generate(inputs.request(), Stages(CPU)))
    return quietly(lambda: torch.cat(list(music.sound), dim=1)[0].numpy()), music.image


def levels(sound: Sound) -> NDArray[np.float32]:
    """Return a sound's spectrogram (512, columns) as levels from 0 to 255, the loudest black."""
    mel = Analysis()(torch.from_numpy(sound)[None])[0]
    found: NDArray[np.float32] = (255 * (mel / mel.max()) ** 0.25).numpy()
    return found


def flux(sound: Sound) -> NDArray[np.float32]:
    """Return how much a spectrogram changes at each column, in mean grey levels over 50 ms."""
    drawn = levels(sound)
    changes: NDArray[np.float32] = np.abs(drawn[:, LAG:] - drawn[:, :-LAG]).mean(axis=0)
    return changes


def joins(sound: Sound) -> dict[str, float]:
    """Compare the borders of clips with what is between them."""
    changes = flux(sound)
    columns = np.arange(changes.size) + LAG / 2
    borders = np.arange(CLIP_SAMPLES, sound.size - 1, CLIP_SAMPLES) / HOP_LENGTH
    nearest = np.abs(columns[:, None] - borders).argmin(axis=1)
    at_border = np.abs(columns[:, None] - borders).min(axis=1) <= NEAR
    usual = np.percentile(changes[~at_border], 95)
    ratios = [changes[at_border & (nearest == i)].max() / usual for i in range(len(borders))]
    treble = sosfiltfilt(butter(8, 11_000, "hp", fs=SAMPLE_RATE_HZ, output="sos"), sound.astype(np.float64))
    loudness = np.sqrt(np.mean(sound.astype(np.float64) ** 2))
    around = [np.sqrt(np.mean(treble[round(b * HOP_LENGTH) - 220 : round(b * HOP_LENGTH) + 220] ** 2)) for b in borders]
    return {
        "flux": float(np.median(ratios)),
        "worst flux": float(np.max(ratios)),
        "treble_db": float(20 * np.log10(max(around) / loudness)),
    }


def bars_of(sound: Sound, hop_bars: int = 1, length_bars: int = 1) -> list[Sound]:
    """Cut a sound into stretches of bars."""
    count = round(sound.size / CLIP_SAMPLES * CLIP_BARS)
    starts = range(0, count - length_bars + 1, hop_bars)
    return [sound[sample_of(start) : sample_of(start + length_bars)] for start in starts]


def loudness_step_db(sound: Sound) -> float:
    """Return the largest step in loudness between neighbouring bars of the first and of the last prompt."""
    loudness = np.array([10 * np.log10(np.mean(bar.astype(np.float64) ** 2)) for bar in bars_of(sound)])
    return float(max(np.abs(np.diff(part)).max() for part in (loudness[:HOLD_BARS], loudness[-HOLD_BARS:])))


def way(sound: Sound) -> dict[str, float]:
    """Follow the tagger's last layer, two bars at a time, from the first prompt to the last."""
    places = torch.stack([embedding(part, SAMPLE_RATE_HZ) for part in bars_of(sound, length_bars=CLIP_BARS)]).numpy()
    held = HOLD_BARS - CLIP_BARS + 1
    first, last = places[:held].mean(axis=0), places[-held:].mean(axis=0)
    moving = places[held - 1 : len(places) - held + 1]
    order = np.arange(len(moving))
    away, towards = (np.linalg.norm(moving - end, axis=1) for end in (first, last))
    steps = np.linalg.norm(np.diff(moving, axis=0), axis=1)
    return {
        "away": float(spearmanr(order, away).statistic),
        "towards": float(-spearmanr(order, towards).statistic),
        "largest step": float(steps.max() / steps.mean()),
    }


def clip_inputs(route: tuple[str, str], bar: int, steps: int, seed: int) -> ClipInputs:
    """Return the inputs of the riffusion clip that plays at a bar of a route."""
    share = min(max((bar + CLIP_BARS / 2 - HOLD_BARS) / (BARS - 2 * HOLD_BARS), 0), 1)
    return ClipInputs(prompt_a=route[0], prompt_b=route[1], alpha=share, num_inference_steps=steps, seed=seed)


def joined_clips(musician: Riffusion, route: tuple[str, str], steps: int, seeds: Sequence[int]) -> Sound:
    """Return riffusion's clips one after the other, as one would play them without a walk."""
    bars = range(0, BARS, CLIP_BARS)
    requests = [clip_inputs(route, bar, steps, seed).request() for bar, seed in zip(bars, seeds, strict=True)]
    clips = quietly(lambda: [musician.generate(request, Stages(CPU)).waveform[0].numpy() for request in requests])
    return np.concatenate(clips)


def route_prompts(route: tuple[str, str]) -> str:
    """Return the prompts of a route, each held for a while."""
    first, second = route
    return f"0: {first} | {HOLD_BARS}: {first} | {BARS - HOLD_BARS}: {second} | {BARS}: {second}"


def grid_error_ms(sound: Sound) -> float:
    """Return the distance between the best period of a sound's onsets and the nearest multiple of a beat."""
    drawn = levels(sound)
    onsets = np.maximum(np.diff(drawn, axis=1), 0).sum(axis=0)
    onsets -= onsets.mean()
    correlation = correlate(onsets, onsets)[onsets.size - 1 :]
    column_s = HOP_LENGTH / SAMPLE_RATE_HZ
    first, last = round(MIN_LAG_S / column_s), round(MAX_LAG_S / column_s)
    peak = first + int(correlation[first:last].argmax())
    before, here, after = correlation[peak - 1 : peak + 2]
    period_s = (peak + (before - after) / (before - 2 * here + after) / 2) * column_s
    return float(1000 * abs(period_s - round(period_s / BEAT_S) * BEAT_S))


def part_difference(walk: Walk, inputs: Inputs, whole: NDArray[np.uint8]) -> float:
    """Return the mean difference in grey levels between a part and the whole, without the part's outer half clips."""
    start_bar = BARS // 2 - CLIP_BARS
    _, part = walked(walk, replace(inputs, start_bar=start_bar, bars=start_bar + 3 * CLIP_BARS))
    first, edge = sample_of(start_bar) // HOP_LENGTH, sample_of(1) // HOP_LENGTH
    inner = part[:, edge:-edge].astype(float)
    return float(np.abs(inner - whole[:, first + edge : first + edge + inner.shape[1]]).mean())


def peak_memory_mb(bars: int) -> float:
    """Return the peak memory of a process that makes a walk of two steps and drops its sound piece by piece."""
    code = (
        "from bench.walk import *\n"
        f"request = Inputs(bars={bars}, num_inference_steps=2).request()\n"
        "music = quietly(lambda: Walk(load(SMALL / 'riffusion', CPU)).generate(request, Stages(CPU)))\n"
        "quietly(lambda: sum(piece.shape[1] for piece in music.sound))\n"
        "print(report.memory_mb()['peak'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(ended.stdout.splitlines()[-1])


@dataclass
class Measures:
    """What is found, by the way in which the sounds were made."""

    of: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)  # of a walk's processor time to that of the same clips
    parts: list[float] = field(default_factory=list)  # differences in grey levels

    def add(self, name: str, sound: Sound) -> None:
        """Measure a sound that follows a route."""
        measures = joins(sound) | way(sound) | {"step_db": loudness_step_db(sound)}
        self.of.setdefault(name, []).append(measures)


def measure(walk: Walk, musician: Riffusion, route: tuple[str, str], steps: int, seed: int, found: Measures) -> None:
    """Make a route as a walk and as clips, and measure them."""
    inputs = Inputs(prompts=route_prompts(route), bars=BARS, num_inference_steps=steps, seed=seed)
    count = BARS // CLIP_BARS
    times_s = [time.process_time()]
    sound, picture = walked(walk, inputs)
    times_s.append(time.process_time())
    one_seed = joined_clips(musician, route, steps, [seed] * count)
    times_s.append(time.process_time())
    walk_s, clips_s = np.diff(times_s)
    found.ratios.append(float(walk_s / clips_s))
    found.add("walk", sound)
    found.add("clips of one seed", one_seed)
    found.add("clips of fresh seeds", joined_clips(musician, route, steps, range(100 * seed, 100 * seed + count)))
    found.parts.append(part_difference(walk, inputs, picture))


def main() -> None:
    """Measure, and print or write the section."""
    parser = report.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50, help="num_inference_steps (default: %(default)s)")
    given = parser.parse_args()
    models = load(SMALL / "riffusion", CPU)
    walk, musician, found = Walk(models), Riffusion(models), Measures()
    cases = [(route, seed) for route in ROUTES for seed in range(given.seeds)]
    for route, seed in tqdm(cases, "routes"):
        measure(walk, musician, route, given.steps, seed, found)
    loop = np.tile(quietly(lambda: musician.sound(seed_image("vibes"), 0))[0].numpy(), BARS // CLIP_BARS)
    found.of["the seed image, looped"] = [joins(loop) | {"step_db": loudness_step_db(loop)}]
    long = Inputs(prompts=f"0: drums and bass | {GRID_BARS}: guitar", bars=GRID_BARS, num_inference_steps=20)
    beat_ms = grid_error_ms(walked(walk, long)[0])
    short_mb, long_mb = (peak_memory_mb(bars) for bars in (8, 240))
    part = np.median(found.parts)
    routes = " and ".join(" to ".join(route) for route in ROUTES)
    conditions = f"""Small model, {given.steps} steps, {BARS} bars from {routes}, {given.seeds} seeds each: medians,
        and the worst flux of all. {report.machine()}."""
    text = f"""## walk

{report.paragraph(conditions)}

{report.markdown_table(HEADER, [[name, *cells(values)] for name, values in found.of.items()])}

{report.paragraph(NOTES)}

- A part of {3 * CLIP_BARS} bars differs from the whole by {part:.2f} grey levels, at most by {max(found.parts):.2f}.
- The onsets of {GRID_BARS} bars repeat best after a whole number of beats, within {beat_ms:.1f} ms.
- A walk takes {np.median(found.ratios):.2f} times the processor time of the same seconds of riffusion clips.
- Ten minutes (240 bars) take {long_mb:.0f} MB of memory at their peak, 8 bars {short_mb:.0f} MB.
"""
    values = {"cpu_ratio": float(np.median(found.ratios)), "beat_ms": beat_ms, "short_mb": short_mb, "long_mb": long_mb}
    report.publish("walk", text, values, given.write)


def cells(values: list[dict[str, float]]) -> list[str]:
    """Return the cells of a row below HEADER for the measures of several sounds."""

    def median(name: str) -> float:
        return float(np.median([one[name] for one in values]))

    found = [f"{median('flux'):.2f}", f"{max(one['worst flux'] for one in values):.2f}"]
    found += [f"{median('treble_db'):.0f} dB", f"{median('step_db'):.1f} dB"]
    if "away" not in values[0]:
        return [*found, "", "", ""]
    return [*found, *(f"{median(name):.2f}" for name in ("away", "towards", "largest step"))]


if __name__ == "__main__":
    main()
