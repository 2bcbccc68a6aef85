"""Paint landscapes: sunset, sea, mountains, forest, night sky, desert, snow and a city at night.

Each takes a generator and returns the canvas and a caption of what is on it.
"""

import numpy as np

from workshop.pictures.canvas import Canvas, Colour, Points, below, ellipse, mix, moved, ridge, varied, vertical
from workshop.pictures.scenery import BLACK, SKIES, WHITE, clouds, conifer, hills, peaks, snow_caps, specks, water
from workshop.randomness import Generator, pick

SUNSETS = {  # the sky overhead and at the horizon
    "orange": ((0.3, 0.22, 0.46), (0.99, 0.62, 0.22)),
    "red": ((0.32, 0.1, 0.26), (0.95, 0.34, 0.16)),
    "pink": ((0.36, 0.3, 0.62), (0.99, 0.6, 0.52)),
    "golden": ((0.62, 0.4, 0.3), (1.0, 0.8, 0.36)),
}
FORESTS = {  # leaves, ground, and the words for them
    "spring": ((0.45, 0.7, 0.28), (0.5, 0.68, 0.32), ("a forest in spring", "a light green forest")),
    "summer": ((0.12, 0.42, 0.18), (0.24, 0.42, 0.18), ("a forest", "a green forest", "trees in a forest")),
    "autumn": ((0.82, 0.42, 0.12), (0.6, 0.4, 0.2), ("a forest in autumn", "an orange autumn forest")),
    "winter": ((0.3, 0.42, 0.42), (0.92, 0.94, 0.97), ("a forest in snow", "a forest in winter", "a snowy forest")),
}


def sunset(generator: Generator) -> tuple[Canvas, str]:
    """Paint a low sun in a warm sky, over the sea, mountains, hills or the desert."""
    colour, place = pick(list(SUNSETS), generator), pick(("sea", "sea", "mountains", "hills", "desert"), generator)
    top, bottom = (varied(np.array(rgb, np.float32), generator) for rgb in SUNSETS[colour])
    horizon = generator.uniform(0.55, 0.72)
    canvas = Canvas(vertical(top, mix(top, bottom, 1 / horizon)))
    x, radius = generator.uniform(0.25, 0.75), generator.uniform(0.05, 0.09)
    y = horizon - generator.uniform(-0.1, 1.4) * radius
    canvas.glow(x, y, 3 * radius, mix(bottom, (1, 1, 0.7), 0.5), 0.8)
    canvas.fill(ellipse(x, y, radius, radius), (1, 0.95, 0.72), blur_px=1.5)
    if place == "sea":
        water(canvas, horizon, mix(top, BLACK, 0.45), mix(bottom, top, 0.4), calm=True, generator=generator)
        sparkles = []
        for depth in np.linspace(0.01, 1 - horizon, 26):
            width = radius * (0.35 + 1.2 * depth) * generator.uniform(0.4, 1.1)
            sparkles.append(ellipse(x + generator.normal(0, 0.012), horizon + depth, width, 0.004, count=20))
        canvas.fill(sparkles, (1, 0.88, 0.6), blur_px=1.5, opacity=0.8)
    else:
        near = mix(bottom, (0.5, 0.28, 0.12), 0.75) if place == "desert" else mix(top, BLACK, 0.75)
        for step, share in enumerate((0.35, 0.7, 1.0)):
            height, shade = horizon + 0.02 + 0.1 * step, mix(mix(top, bottom, 0.6), near, share)
            if place == "mountains":
                canvas.fill(below(ridge(height, 0.16, generator)), shade)
            else:
                hills(canvas, height, 0.06, shade, generator)
    phrases = ("sunset over the {1}", "a {0} sunset over the {1}", "a {0} sunset", "the sun setting over the {1}")
    return canvas, pick((*phrases, "sunset"), generator).format(colour, place)


def sea(generator: Generator) -> tuple[Canvas, str]:
    """Paint the sea by day: calm or with waves, with a boat, an island or a beach."""
    sky, calm = pick(("blue", "blue", "grey"), generator), bool(generator.random() < 0.5)
    horizon = generator.uniform(0.32, 0.52)
    canvas = Canvas(vertical(*SKIES[sky]))
    if sky == "blue" and generator.random() < 0.6:
        clouds(canvas, int(generator.integers(1, 5)), 0.06, horizon - 0.1, generator)
    blue = np.array((0.08, 0.32, 0.55) if sky == "blue" else (0.25, 0.34, 0.42), np.float32)
    near = varied(mix(blue, (0, 0.5, 0.5), generator.uniform(0, 0.4)), generator)
    water(canvas, horizon, near, varied(mix(blue, WHITE, 0.35), generator), calm, generator)
    extra = pick(("", "", " with a boat", " with an island", " and a beach"), generator)
    if "boat" in extra:
        boat(canvas, horizon + generator.uniform(0.03, 0.1), generator)
    elif "island" in extra:
        mound = ellipse(
            generator.uniform(0.2, 0.8), horizon, generator.uniform(0.1, 0.2), generator.uniform(0.05, 0.12)
        )
        canvas.fill(np.minimum(mound, (2, horizon)), varied(np.array((0.24, 0.42, 0.24), np.float32), generator))
    elif "beach" in extra:
        line = ridge(generator.uniform(0.78, 0.86), 0.05, generator, 0.3)
        canvas.fill(below(moved(line, 0, -0.015)), WHITE, blur_px=3, opacity=0.8)
        canvas.fill(below(line), (0.9, 0.8, 0.58), blur_px=2)
    mood = "calm" if calm else "rough"
    phrases = (f"the sea{extra}", f"a {mood} sea{extra}", f"the sea under a {sky} sky", f"the {mood} ocean{extra}")
    return canvas, pick(phrases, generator)


def boat(canvas: Canvas, y: float, generator: Generator) -> None:
    """Paint a sailing boat whose deck is at y."""
    x, size = generator.uniform(0.25, 0.75), generator.uniform(0.07, 0.12)
    canvas.fill(moved([(0.02, -1.7), (0.02, -0.1), (0.85, -0.1)], x, y, size), (0.98, 0.97, 0.93))
    canvas.fill(moved([(-0.06, -1.5), (-0.06, -0.1), (-0.7, -0.1)], x, y, size), (0.95, 0.93, 0.88))
    canvas.fill(moved([(-1.0, 0.0), (1.0, 0.0), (0.7, 0.35), (-0.7, 0.35)], x, y, size), (0.55, 0.2, 0.14))


def mountains(generator: Generator) -> tuple[Canvas, str]:
    """Paint three ranges of mountains, paler with distance, with or without snow on them."""
    sky, snowy = pick(("blue", "grey", "pink"), generator), bool(generator.random() < 0.5)
    canvas = Canvas(vertical(*SKIES[sky]))
    if sky == "blue" and generator.random() < 0.4:
        clouds(canvas, 3, 0.05, 0.25, generator)
    haze = np.asarray(SKIES[sky][1])
    rock = varied(np.array((0.26, 0.3, 0.38), np.float32), generator)
    height = generator.uniform(0.36, 0.5)
    for step, share in enumerate((0.4, 0.7, 1.0)):
        line = peaks(height + 0.17 * step, 0.2 - 0.04 * step, generator)
        slope = mix(haze, mix(rock, (0.2, 0.34, 0.2), step / 3), share)
        canvas.fill(below(line), vertical(slope, mix(slope, haze, 0.25)))
        if snowy and step < 2:
            snow_caps(canvas, line, 0.07, mix(haze, WHITE, 0.5 + 0.4 * share))
    adjective = pick(("snowy ", ""), generator) if snowy else ""
    phrases = ("{0}mountains", "{0}mountains under a {1} sky", "a landscape with {0}mountains", "tall {0}mountains")
    return canvas, pick(phrases, generator).format(adjective, sky)


def forest(generator: Generator) -> tuple[Canvas, str]:
    """Paint rows of trees in one season, the nearer the larger and darker."""
    season, sky = pick(list(FORESTS), generator), pick(("blue", "grey"), generator)
    leaf, ground, phrases = FORESTS[season]
    leaf_colour, haze = varied(np.array(leaf, np.float32), generator), np.asarray(SKIES[sky][1])
    canvas = Canvas(vertical(*SKIES[sky]))
    firs = season == "winter" or (season == "summer" and generator.random() < 0.6)
    for step, share in enumerate((0.5, 0.75, 1.0)):
        foot, count = 0.58 + 0.17 * step, 11 - 2 * step
        hills(canvas, foot - 0.05, 0.02, mix(haze, ground, share), generator)
        places = np.linspace(0, 1, count) + generator.normal(0, 0.025, count)
        heights = (0.36 + 0.14 * step) * generator.uniform(0.75, 1.1, count)
        trees = np.stack([places, heights], axis=1)
        shade = mix(haze, mix(leaf_colour, BLACK, 0.12 * step), share)
        if firs:
            canvas.fill([conifer(x, foot, height) for x, height in trees], shade)
            if season == "winter":
                tops = [moved(conifer(0, 0, height), x - 0.012, foot - 0.12 * height, 0.88) for x, height in trees]
                canvas.fill(tops, WHITE, blur_px=3, opacity=0.28 * share)
        else:
            leafy_trees(canvas, trees, foot, shade, mix(haze, (0.3, 0.2, 0.13), share), generator)
    if season == "winter" and generator.random() < 0.5:
        specks(canvas, 120, 1, generator)
    return canvas, pick(phrases, generator)


def leafy_trees(canvas: Canvas, trees: Points, foot: float, leaf: Colour, bark: Colour, generator: Generator) -> None:
    """Paint trees (n, 2), each of a place and a height, with a trunk and a crown of a few clumps, lighter on top."""
    trunk = np.array([[-0.012, 0], [-0.008, -0.7], [0.008, -0.7], [0.012, 0]])
    canvas.fill([moved(trunk * (1, height), x, foot) for x, height in trees], bark)
    for light in (0.0, 0.18):
        crowns = [
            ellipse(x + dx * height, foot - height * (0.72 + dy) - 0.05 * light, 0.13 * height, 0.13 * height, count=24)
            for x, height in trees
            for dx, dy in generator.uniform(-0.12, 0.12, (4, 2))
        ]
        canvas.fill(crowns, mix(leaf, WHITE, light), blur_px=1.5, opacity=1 - 2 * light)


def night_sky(generator: Generator) -> tuple[Canvas, str]:
    """Paint stars, and mostly a full moon or a crescent, over mountains, hills or nothing."""
    dark, horizon = (varied(np.array(rgb, np.float32), generator, 0.02) for rgb in SKIES["night"])
    canvas = Canvas(vertical(dark, horizon))
    specks(canvas, int(generator.integers(60, 220)), 1, generator)
    moon = pick(("", "full moon", "full moon", "crescent moon"), generator)
    if moon:
        paint_moon(canvas, moon, generator)
    place = pick(("", "mountains", "hills"), generator)
    if place == "mountains":
        canvas.fill(below(ridge(0.84, 0.12, generator)), mix(dark, BLACK, 0.6))
    elif place == "hills":
        hills(canvas, 0.84, 0.05, mix(dark, BLACK, 0.6), generator)
    over = f" over {place}" if place else ""
    stars = (f"a night sky{over}", f"a starry night{over}", f"night sky with stars{over}", f"stars{over}")
    lit = (
        f"a {moon}{over}",
        f"a night sky with a {moon}",
        f"moon and stars{over}",
        f"night sky with stars and moon{over}",
    )
    return canvas, pick(lit if moon and generator.random() < 0.7 else stars, generator)


def paint_moon(canvas: Canvas, moon: str, generator: Generator) -> None:
    """Paint a full or a crescent moon with its glow."""
    x, y, radius = generator.uniform(0.2, 0.8), generator.uniform(0.15, 0.4), generator.uniform(0.05, 0.1)
    canvas.glow(x, y, 1.6 * radius, (0.5, 0.56, 0.75), 0.5)
    if moon == "crescent moon":
        angles = np.linspace(-np.pi / 2, np.pi / 2, 40)
        rim = np.stack([-np.cos(angles), np.sin(angles)], axis=1)
        outline = np.concatenate([rim, rim[::-1] * (0.45, 1)])
        canvas.fill(moved(outline, x, y, radius), (0.97, 0.95, 0.85), blur_px=0.8)
        return
    canvas.fill(ellipse(x, y, radius, radius), (0.97, 0.95, 0.85), blur_px=0.8)
    seas = generator.uniform(-0.5, 0.5, (4, 3)) * radius
    spots = [
        ellipse(x + dx, y + dy, 0.1 * radius + 0.4 * abs(size), 0.1 * radius + 0.4 * abs(size)) for dx, dy, size in seas
    ]
    canvas.fill(spots, (0.86, 0.84, 0.76), blur_px=2, opacity=0.7)


def desert(generator: Generator) -> tuple[Canvas, str]:
    """Paint dunes under a blue sky, their lee sides in shade."""
    canvas = Canvas(vertical(*SKIES["blue"]))
    canvas.glow(generator.uniform(0.2, 0.8), 0.14, 0.06, (1, 1, 0.85))
    sand = varied(np.array((0.93, 0.74, 0.46), np.float32), generator)
    for step in range(4):
        line = ridge(0.48 + 0.13 * step, 0.11, generator, 0.3)
        canvas.fill(below(line), mix(sand, (0.75, 0.45, 0.2), 0.12 * step))
        crest = line[np.argmin(line[20:-20, 1]) + 20]
        shaded = [(0, 0), (0.05, 0.08), (0.02, 0.2), (0.12, 0.4)]
        lee = np.concatenate([moved(shaded, *crest), [(1.2, 1.1), (1.2, line[-1, 1])]])
        right = line[line[:, 0] > crest[0]][::-1]
        canvas.fill(np.concatenate([lee, right]), (0.62, 0.36, 0.18), blur_px=1.5, opacity=0.35)
    return canvas, pick(("a desert", "sand dunes", "dunes in the desert", "a desert under a blue sky"), generator)


def snow(generator: Generator) -> tuple[Canvas, str]:
    """Paint a field of snow with a few firs, while it snows."""
    canvas = Canvas(vertical(*SKIES[pick(("grey", "pink", "blue"), generator)]))
    for step in range(3):
        shade = mix((0.97, 0.98, 1), (0.72, 0.78, 0.88), 0.5 - 0.2 * step)
        hills(canvas, 0.52 + 0.15 * step, 0.06, vertical(WHITE, shade), generator)
        places = generator.uniform(0, 1, int(generator.integers(1, 4)))
        firs = [conifer(x, 0.56 + 0.15 * step, 0.14 + 0.06 * step) for x in places]
        canvas.fill(firs, mix((0.16, 0.32, 0.28), WHITE, 0.3 - 0.1 * step))
    specks(canvas, int(generator.integers(60, 260)), 1, generator)
    return canvas, pick(("snow", "a snowy landscape", "falling snow", "a winter landscape in snow"), generator)


def city(generator: Generator) -> tuple[Canvas, str]:
    """Paint a skyline by night, with lit windows."""
    dark, horizon = SKIES["night"]
    canvas = Canvas(vertical(dark, mix(horizon, (0.5, 0.3, 0.4), 0.4)))
    specks(canvas, 60, 0.4, generator)
    window = np.array([[0, 0], [0.011, 0], [0.011, 0.016], [0, 0.016]])
    for step in range(2):
        x, towers, windows = -0.05, [], []
        while x < 1:
            width, top = generator.uniform(0.08, 0.15), generator.uniform(0.28, 0.6) + 0.15 * step
            towers.append(np.array([[x, top], [x + width, top], [x + width, 1.1], [x, 1.1]]))
            floors = np.mgrid[x + 0.015 : x + width - 0.02 : 0.024, top + 0.02 : 1 : 0.032].reshape(2, -1).T
            windows += [moved(window, *corner) for corner in floors[generator.random(len(floors)) < 0.35]]
            x += width + generator.uniform(0, 0.02)
        canvas.fill(towers, mix(mix(horizon, WHITE, 0.08), (0.03, 0.03, 0.07), 0.45 + 0.5 * step))
        canvas.fill(windows, (1, 0.85, 0.5), opacity=0.55 + 0.4 * step)
    return canvas, pick(("a city at night", "city lights at night", "a skyline at night", "a city"), generator)
