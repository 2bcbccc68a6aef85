"""Compare image -> sound and sound -> image with the original's way: how fast, and how true.

Run: script/bench spectrogram [--write]. It takes two to five minutes.
"""

import argparse
from dataclasses import astuple

import report
import torch
from spectrogram_metrics import Original, distance
from torch import Tensor

from lib.audio.inverse import Synthesis
from lib.audio.seed_images import MUSICAL_SEEDS, load
from lib.audio.spectrogram import Analysis, image_to_mel

METRICS = {"a": "spectral convergence", "b": "error in grey levels", "c": "log-spectral distance, dB"}


def synthesise(mel: Tensor) -> Tensor:
    """Return the project's sound, always from the same phases."""
    return synthesis(mel, torch.Generator().manual_seed(0))


def seconds(threads: int) -> tuple[list[float], list[float]]:
    """Return the median seconds (original, project) of image -> sound, and of sound -> image."""
    torch.set_num_threads(threads)
    for warm_up in (original.analyse, analysis):
        warm_up(sounds[0])
    return (
        report.median_seconds([original.synthesise, synthesise], mels),
        report.median_seconds([original.analyse, analysis], sounds * 4),
    )


def quality() -> dict[str, tuple[float, float]]:
    """Return each metric (original, project), the mean of the seeds."""
    means = [
        torch.tensor([astuple(distance(mel, original.analyse(way(mel)))) for mel in mels]).mean(dim=0).tolist()
        for way in (original.synthesise, synthesise)
    ]
    return dict(zip(METRICS, zip(*means, strict=True), strict=True))


def largest_level_difference() -> float:
    """Return the largest difference, in grey levels before rounding, between the two images of a sound.

    Amplitudes more than 100 dB below the loudest are left out: there both images are rounding noise of float32.
    """
    difference = 0.0
    for sound in sounds:
        mel = original.analyse(sound)
        one, other = (255 * (some.double() / mel.max()) ** 0.25 for some in (mel, analysis(sound)))
        difference = max(difference, float((one - other).abs()[mel > mel.max() * 1e-5].max()))
    return difference


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
write = parser.parse_args().write

torch.manual_seed(0)  # the original draws from the global generator
torch.set_num_threads(1)
original, synthesis, analysis = Original(), Synthesis(), Analysis()
mels = [image_to_mel(load(name)) for name in MUSICAL_SEEDS]
sounds = [synthesise(mel) for mel in mels]

metrics = quality()
rows = []
ratios = {}
for threads in (1, 2):
    for way, (slow_s, fast_s) in zip(("image -> sound", "sound -> image"), seconds(threads), strict=True):
        rows.append(
            [
                f"{way}, {threads} {'thread' if threads == 1 else 'threads'}",
                f"{slow_s:.3f} s",
                f"{fast_s:.3f} s",
                f"{slow_s / fast_s:.1f}",
            ]
        )
        ratios[way, threads] = slow_s / fast_s
for name, (reference, own) in metrics.items():
    rows.append([f"{name}: {METRICS[name]}", f"{reference:.4f}", f"{own:.4f}", f"{reference / own:.2f}"])

text = f"""## Spectrogram

A clip of 512 columns, 5.11 s. Medians and means of the {len(mels)} musical seed images; {report.machine()}.
The project's image -> sound keeps to one thread, whatever torch has.

{report.markdown_table(["", "original", "this project", "ratio"], rows)}
"""
print(text)
if write:
    report.write_section("spectrogram", text)
values = {
    "inverse_ratio_1t": ratios["image -> sound", 1],
    "inverse_ratio_2t": ratios["image -> sound", 2],
    **{f"{name}{end}": value for name, pair in metrics.items() for end, value in zip(("_ref", ""), pair, strict=True)},
    "forward_max_level_diff": largest_level_difference(),
}
order = ("inverse_ratio_1t", "inverse_ratio_2t", "a", "a_ref", "b", "b_ref", "c", "c_ref", "forward_max_level_diff")
print(report.key_values({name: values[name] for name in order}))
