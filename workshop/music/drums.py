"""Draw drum patterns: a bar of kick, snare and hat in a style, varied, and played on a kit."""

from functools import partial

from workshop.chance import Generator, pick
from workshop.sound import synth
from workshop.sound.loop import Instrument, Note, rhythm

Voice = tuple[Instrument, list[Note]]

# Style -> bars of (kick, snare, hat) in the notation of `loop.rhythm`. A bar of 16 steps is in sixteenths, one of 12
# in triplets, which swing.
BARS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "rock": (
        ("X... .... X... ....", ".... X... .... X...", "x.o. x.o. x.o. x.o."),
        ("X... ..x. X... ....", ".... X... .... X...", "x.x. x.x. x.x. x.x."),
        ("X.x. .... X.x. ....", ".... X... .... X...", "x.o. x.o. x.o. x.o."),
    ),
    "funky": (
        ("X..x ..X. ..x. .x..", ".... X..o .o.. X..o", "xoxo xoxo xoxo xoxo"),
        ("X.x. ...x ..X. .x..", "...o X..o .o.o X...", "x.xx x.xx x.xx x.xx"),
        ("X... ..xX ..x. ....", ".o.. X.o. .o.o X..x", "xxox xxox xxox xxox"),
    ),
    "techno": (
        ("X... X... X... X...", ".... .... .... ....", "..X. ..X. ..X. ..X."),
        ("X... X... X... X...", ".... X... .... X...", "..X. ..X. ..X. ..Xo"),
        ("X... X... X... X..x", ".... .... .... X...", "ooXo ooXo ooXo ooXo"),
    ),
    "hip hop": (
        ("X... ...x ..X. ....", ".... X... .... X...", "x.x. x.x. x.x. x.x."),
        ("X..x .... ..Xx ....", ".... X... .... X..o", "x... x... x... x..."),
    ),
    "jazzy": (
        ("x.. ..o x.. ...", "... ..o ... o.o", "X.. x.o X.. x.o"),
        ("x.. ... x.. ..o", "..o ... ..o ...", "X.. x.x X.. x.x"),
    ),
    "sparse": (
        ("X... .... .... ....", ".... .... X... ....", ".... .... .... ...."),
        ("X... .... .... ..x.", ".... .... X... ....", "x... .... x... ...."),
        ("X... .... X... ....", ".... X... .... X...", ".... .... .... ...."),
    ),
}
GHOSTS = {"rock": 0.04, "funky": 0.15, "techno": 0.02, "hip hop": 0.05, "jazzy": 0.06, "sparse": 0.0}


def drum_kit(style: str, generator: Generator) -> list[Voice]:
    """Draw two bars of a style and a kit to play them."""
    bars = BARS[style]
    bar = pick(bars, generator)
    other = bar if generator.random() < 0.6 else pick(bars, generator)
    two_bars = [f"{first} | {second}" for first, second in zip(bar, other, strict=True)]
    kick, snare, hat = (varied(steps, GHOSTS[style], generator) for steps in two_bars)
    step_beats = 1 / 3 if style == "jazzy" else 0.25
    kick_hz, snare_hz = generator.uniform(48, 75), generator.uniform(160, 230)
    hat_hz, hat_beats = generator.uniform(4500, 7000), pick((0.1, 0.15, 0.25, 0.4), generator)
    if style in ("techno", "hip hop") and generator.random() < 0.6:
        back: Instrument = partial(synth.clap, generator=generator)
        snare_hz *= 8
    else:
        back = partial(synth.snare, generator=generator, top_hz=generator.uniform(5000, 10000))
    return [
        (synth.kick, rhythm(kick, kick_hz, 0.4, step_beats)),
        (back, rhythm(snare, snare_hz, 0.4, step_beats)),
        (partial(synth.hat, generator=generator), rhythm(hat, hat_hz, hat_beats, step_beats)),
    ]


def varied(steps: str, ghosts: float, generator: Generator) -> str:
    """Add soft hits to some of a pattern's silent steps, and leave out a few of those that are not loud."""
    if not set(steps) & set("Xxo"):
        return steps
    chances = generator.random(len(steps))
    changed = [
        "o" if step == "." and chance < ghosts else "." if step in "xo" and chance < 0.06 else step
        for step, chance in zip(steps, chances, strict=True)
    ]
    return "".join(changed)
