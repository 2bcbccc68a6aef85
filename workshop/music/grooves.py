"""Draw drum patterns: a bar of kick, snare and hi-hat in a style, varied."""

from workshop.music.instruments import GROOVES
from workshop.music.notation import rhythm
from workshop.music.soundfont import Note
from workshop.randomness import Generator, pick

# Keys of General MIDI's drum kits.
KICK, SNARE, CLAP, HAT, OPEN_HAT, RIDE = 36, 38, 39, 42, 46, 51


def draw_groove(style: str, generator: Generator) -> list[Note]:
    """Draw two bars of a style."""
    groove = GROOVES[style]
    bar = pick(groove.bars, generator)
    other = bar if generator.random() < 0.6 else pick(groove.bars, generator)
    two_bars = [f"{first} | {second}" for first, second in zip(bar, other, strict=True)]
    kick, back, top = (varied(steps, groove.ghosts, generator) for steps in two_bars)
    step_beats = 1 / 3 if style == "jazzy" else 0.25
    back_key = CLAP if style in ("techno", "hip hop") and generator.random() < 0.5 else SNARE
    top_key = RIDE if style == "jazzy" else OPEN_HAT if style == "techno" and generator.random() < 0.4 else HAT
    parts = ((kick, KICK), (back, back_key), (top, top_key))
    return [note for steps, key in parts for note in rhythm(steps, key, step_beats)]


def varied(steps: str, ghosts: float, generator: Generator) -> str:
    """Add soft hits at some of a pattern's silent steps, and leave out a few hits that are not loud."""
    if not set(steps) & set("Xxo"):
        return steps
    chances = generator.random(len(steps))
    changed = [
        "o" if step == "." and chance < ghosts else "." if step in "xo" and chance < 0.06 else step
        for step, chance in zip(steps, chances, strict=True)
    ]
    return "".join(changed)
