"""Paint what several scenes share: skies, clouds, stars, water, hills, mountains and firs."""

import numpy as np
from numpy.typing import ArrayLike

from workshop.pictures.canvas import Canvas, Points, below, ellipse, mix, moved, ridge, vertical
from workshop.randomness import Generator

WHITE, BLACK = np.ones(3), np.zeros(3)
SKIES = {  # the sky overhead and at the horizon
    "blue": ((0.25, 0.5, 0.85), (0.72, 0.86, 0.96)),
    "grey": ((0.5, 0.55, 0.62), (0.78, 0.8, 0.82)),
    "pink": ((0.45, 0.5, 0.78), (0.97, 0.76, 0.74)),
    "night": ((0.02, 0.03, 0.12), (0.12, 0.16, 0.36)),
}


def clouds(canvas: Canvas, count: int, highest: float, lowest: float, generator: Generator) -> None:
    """Paint soft white clouds, each of a few puffs."""
    for _ in range(count):
        x, y, width = generator.uniform(0, 1), generator.uniform(highest, lowest), generator.uniform(0.05, 0.11)
        offsets = generator.uniform(-1, 1, (6, 2)) * (1.5, 0.25)
        puffs = [
            ellipse(x + dx * width, y + dy * width, width * size, width * size * 0.45)
            for (dx, dy), size in zip(offsets, generator.uniform(0.5, 1, 6), strict=True)
        ]
        canvas.fill(puffs, WHITE, blur_px=7, opacity=0.75)


def specks(canvas: Canvas, count: int, lowest: float, generator: Generator) -> None:
    """Paint stars, or flakes of snow, of three sizes, from the top down to `lowest`."""
    for radius_px, share in ((0.9, 0.6), (1.5, 0.3), (2.4, 0.1)):
        places = generator.uniform((0, 0), (1, lowest), (round(count * share), 2))
        canvas.fill([ellipse(x, y, radius_px / 512, radius_px / 512, count=10) for x, y in places], (1, 1, 0.92))


def water(canvas: Canvas, horizon: float, near: ArrayLike, far: ArrayLike, calm: bool, generator: Generator) -> None:
    """Paint a sea from the horizon down, with waves that grow as they come nearer."""
    surface = np.array([[-0.1, horizon], [1.1, horizon], [1.1, 1.1], [-0.1, 1.1]])
    canvas.fill(surface, vertical(mix(far, near, -horizon / (1.1 - horizon)), near))
    depths = np.sort(generator.random(24 if calm else 60)) ** 2
    for paint, some in ((WHITE, depths[::2]), (BLACK, depths[1::2])):
        waves = []
        for depth in some:
            x, y = generator.uniform(0, 1), horizon + 0.012 + depth * (1 - horizon)
            waves.append(ellipse(x, y, 0.03 + 0.14 * depth, (0.0015 if calm else 0.003) + 0.006 * depth, count=24))
        canvas.fill(waves, paint, blur_px=1.2, opacity=0.16 if calm else 0.3)


def hills(canvas: Canvas, height: float, swing: float, colour: ArrayLike, generator: Generator) -> None:
    """Paint a smooth row of hills from one side to the other."""
    canvas.fill(below(ridge(height, swing, generator, decay=0.3)), colour)


def peaks(height: float, swing: float, generator: Generator) -> Points:
    """Return the line of a range of mountains: peaks and saddles in turn, their slopes broken up."""
    count = int(generator.integers(3, 6))
    xs = np.linspace(-0.1, 1.1, 2 * count + 1) + generator.uniform(-0.3, 0.3, 2 * count + 1) / (2 * count)
    ups = np.where(np.arange(xs.size) % 2, -1.0, 1.0) * swing * generator.uniform(0.4, 1, xs.size)
    across = np.linspace(xs[0], xs[-1], 161)
    jags = np.convolve(generator.normal(0, 0.02, across.size + 4), np.ones(5) / 5, "valid")
    return np.stack([across, height + np.interp(across, xs, ups) + jags], axis=1)


def snow_caps(canvas: Canvas, line: Points, depth: float, colour: ArrayLike) -> None:
    """Cover what of a range lies near its tops, down to a ragged edge."""
    snow_line = np.quantile(line[:, 1], 0.45) + 0.01 * np.sin(90 * line[:, 0])
    edge = np.stack([line[:, 0], np.maximum(line[:, 1], np.minimum(line[:, 1] + depth, snow_line))], axis=1)
    canvas.fill(np.concatenate([line, edge[::-1]]), colour)


def conifer(x: float, foot: float, height: float) -> Points:
    """Return the outline of a fir with three tiers."""
    trunk_to_tip = [
        (0.04, 0),
        (0.04, 0.08),
        (0.3, 0.08),
        (0.13, 0.38),
        (0.23, 0.38),
        (0.09, 0.68),
        (0.16, 0.68),
        (0, 1),
    ]
    half = np.array(trunk_to_tip[::-1])
    return moved(np.concatenate([half, half[::-1] * (-1, 1)]) * (1, -1), x, foot, height)
