"""Compare image -> sound and sound -> image with the original's way: how fast, how true, and what one hears of it.

Run: script/bench spectrogram [--write]. It takes five minutes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
import torchaudio
from torch import Tensor

from bench import report
from bench import spectrogram_hearing as hearing
from bench.spectrogram_hearing import Sound
from bench.spectrogram_metrics import Original, distance
from lib.audio.inverse import Synthesis
from lib.audio.loudness import level
from lib.audio.seed_images import MUSICAL_SEEDS, load
from lib.audio.spectrogram import Analysis, image_to_mel, mel_to_image
from workshop.seeds.songs import render

METRICS = {"a": "spectral convergence", "b": "error in grey levels", "c": "log-spectral distance, dB"}
TONE_HZ = 3000


@dataclass(frozen=True)
class Way:
    """Convert in one way, the original's or this project's."""

    synthesise: Callable[[Tensor], Tensor]
    analyse: Callable[[Tensor], Tensor]  # by the ends that synthesise has

    def again(self, sound: Sound) -> Sound:
        """Draw a sound, and return what its picture sounds like."""
        mel = self.analyse(torch.from_numpy(sound).float()[np.newaxis])
        return samples(self.synthesise(image_to_mel(mel_to_image(mel))))


@dataclass(frozen=True)
class Clips:
    """What a way makes of the seeds, and the CPU seconds that each takes on one thread."""

    sounds: list[Tensor]
    cpu_s: list[float]


def samples(waveform: Tensor) -> Sound:
    """Return a waveform (1, samples) as (samples,) in float64."""
    return waveform[0].double().numpy()


def make_clips(ways: Sequence[Way], mels: Sequence[Tensor]) -> list[Clips]:
    """Let the ways take turns at the seeds, so that a busy machine slows them alike."""
    clips = [Clips([], []) for _ in ways]
    torch.set_num_threads(1)
    for mel in mels:
        for way, its in zip(ways, clips, strict=True):
            started_s = time.process_time()
            sound = way.synthesise(mel)
            its.cpu_s.append(time.process_time() - started_s)
            its.sounds.append(sound)
    return clips


def quality(way: Way, mels: Sequence[Tensor], clips: Clips) -> dict[str, float]:
    """Return each metric, the mean of the seeds."""
    distances = [astuple(distance(mel, way.analyse(sound))) for mel, sound in zip(mels, clips.sounds, strict=True)]
    return dict(zip(METRICS, np.mean(distances, axis=0).tolist(), strict=True))


def heard(way: Way, clips: Clips) -> dict[str, float]:
    """Return what one hears of a way: on noise, on clicks, on a tone, and on the seeds."""
    truths = [render(name) for name in MUSICAL_SEEDS]
    sounds = [samples(sound) for sound in clips.sounds]
    pairs = list(zip(sounds, truths, strict=False))
    click = way.again(hearing.clicks())
    levelled = [samples(level(sound)) for sound in clips.sounds]
    return {
        "am_noise": hearing.treble_modulation(way.again(hearing.noise())),
        "am_seeds": float(np.mean([hearing.treble_modulation(sound) for sound in sounds])),
        "am_error": float(np.mean([hearing.modulation_error(*pair, hearing.FRAME_RATE_HZ) for pair in pairs])),
        "am_error_beside": float(
            np.mean([hearing.modulation_error(*pair, rate) for pair in pairs for rate in hearing.NEIGHBOUR_RATES_HZ])
        ),
        "pre_echo_db": hearing.pre_echo_db(click),
        "width_ms": hearing.click_width_ms(click),
        "tone_am": hearing.tone_modulation(way.again(hearing.tone(TONE_HZ)), TONE_HZ),
        "seam_db": max(hearing.seam_db(sound) for sound in levelled),
        "ends_db": max(hearing.ends_db(sound) for sound in levelled),
        "splatter_db": max(hearing.splatter_db(sound) for sound in levelled),
    }


LABELS = {
    "am_noise": "modulation at 50 Hz in 4 to 9.5 kHz, noise",
    "am_seeds": "the same, the seeds",
    "am_error": "the same, how far from the true sound's",
    "am_error_beside": "how far at 37, 43, 57 and 63 Hz",
    "pre_echo_db": "energy more than 5 ms before a click, dB",
    "width_ms": "width of a click, ms",
    "tone_am": "modulation of a tone of 3 kHz",
    "seam_db": "above 11 kHz where a clip goes round, worst seed, dB",
    "ends_db": "first or last sample, worst seed, dB",
    "splatter_db": "above 11 kHz in a finished clip, worst seed, dB",
}


def table(rates: Sequence[Sequence[str]], metrics: Sequence[Mapping[str, float]], truth: Mapping[str, float]) -> str:
    """Return the rows of times, of metrics and of what is heard, (original, project, true sound)."""
    rows = [list(rate) for rate in rates]
    for name, label in METRICS.items():
        rows.append([f"{name}: {label}", *(f"{found[name]:.4f}" for found in metrics), ""])
    for name, label in LABELS.items():
        rows.append(
            [label, *(f"{found[name]:.3f}" for found in metrics), f"{truth[name]:.3f}" if name in truth else ""]
        )
    return report.markdown_table(["", "original", "this project", "true sound"], rows)


def main() -> None:
    """Measure, print, and on request write."""
    write = report.parser(__doc__).parse_args().write

    torch.manual_seed(0)  # the original draws from the global generator
    original, synthesis, analysis = Original(), Synthesis(), Analysis()
    theirs = Way(original.synthesise, original.analyse)
    ours = Way(
        lambda mel: synthesis(mel, torch.Generator().manual_seed(0)), lambda waveform: analysis(waveform, looped=True)
    )
    mels = [image_to_mel(load(name)) for name in MUSICAL_SEEDS]
    ways = (theirs, ours)
    clips = make_clips(ways, mels)
    metrics = [quality(way, mels, its) | heard(way, its) for way, its in zip(ways, clips, strict=True)]
    truths = [render(name) for name in MUSICAL_SEEDS]
    truth = {
        "am_noise": hearing.treble_modulation(hearing.noise()),
        "am_seeds": float(np.mean([hearing.treble_modulation(sound) for sound in truths])),
        "pre_echo_db": hearing.pre_echo_db(hearing.clicks()),
        "width_ms": hearing.click_width_ms(hearing.clicks()),
        "tone_am": hearing.tone_modulation(hearing.tone(TONE_HZ), TONE_HZ),
    }

    cpu_s = [float(np.median(its.cpu_s)) for its in clips]
    rates = [["image -> sound, CPU time on 1 thread", *(f"{each:.3f} s" for each in cpu_s), ""]]
    ratios = {"inverse_ratio_1t": cpu_s[0] / cpu_s[1]}
    torch.set_num_threads(2)
    two_s = report.median_seconds([way.synthesise for way in ways], mels[:2])
    rates.append(["image -> sound, elapsed, 2 threads", *(f"{each:.3f} s" for each in two_s), ""])
    ratios["inverse_ratio_2t"] = two_s[0] / two_s[1]
    torch.set_num_threads(1)
    forward_s = report.median_seconds([original.analyse, analysis], list(clips[1].sounds) * 4)
    rates.append(["sound -> image, elapsed, 1 thread", *(f"{each:.3f} s" for each in forward_s), ""])

    text = f"""## Spectrogram

A clip of 512 columns, 5.11 s. Medians and means of the {len(mels)} musical seed images; {report.machine()}.
The original is riffusion's converter on torchaudio {torchaudio.__version__}:
InverseMelScale by least squares, GriffinLim of 32 iterations, momentum 0.99, random start.
Each way's sound is analysed with its own ends: reflected, and joined. The project's keeps to one thread, whatever torch
has. Its image -> sound takes 1/{ratios["inverse_ratio_1t"]:.0f} of the original's CPU time.

{table(rates, metrics, truth)}
"""
    reference, own = metrics
    values = ratios | {
        f"{name}{end}": found[name] for name in METRICS for end, found in (("", own), ("_ref", reference))
    }
    names = ("am_noise", "am_seeds", "pre_echo_db", "width_ms", "tone_am", "seam_db", "splatter_db")
    values |= {name: own[name] for name in names} | {"am_seeds_true": truth["am_seeds"], "cpu_s": cpu_s[1]}
    report.publish("spectrogram", text, values, write)


if __name__ == "__main__":
    main()
