"""Describe what was played: every adjective follows from a part's own figures."""

from workshop.music.instruments import GENRES, INSTRUMENTS
from workshop.music.parts import Part
from workshop.randomness import Generator, pick

SLOW_ONSETS_PER_S, FAST_ONSETS_PER_S = 1.3, 3.5
SPARSE_HITS_PER_S, BUSY_HITS_PER_S = 3.0, 5.0
LOW_REGISTER, HIGH_REGISTER = 0.36, 0.64
DARK, BRIGHT = 0.3, 0.7
DRUMS = ("drums", "hip hop drums")
BASSES = ("bass", "slap bass", "synth bass")
SHORT = {"church bells": "bells", "hip hop drums": "drums", "synth lead": "synth"}
PLAIN = {name: SHORT.get(name, name) for name in INSTRUMENTS}
GENRE_OF_STYLE = {"funky": "funky", "jazzy": "jazz", "rock": "rock", "techno": "techno"}  # of drums by themselves
MOODS = {"major": ("happy", "cheerful"), "minor": ("sad", "melancholic")}


def adjectives(part: Part) -> list[str]:
    """Return everything that can be said of a part: its speed or density, register, brightness and genre."""
    instrument = INSTRUMENTS[part.name]
    words = []
    if part.name in DRUMS:
        words += ["sparse"] if part.onsets_per_s < SPARSE_HITS_PER_S else []
        words += ["busy", "fast"] if part.onsets_per_s > BUSY_HITS_PER_S else []
        return words + ([GENRE_OF_STYLE[part.style]] if part.style in GENRE_OF_STYLE else [])
    words += ["slow"] if part.onsets_per_s < SLOW_ONSETS_PER_S else []
    words += ["fast", "busy"] if part.onsets_per_s > FAST_ONSETS_PER_S else []
    if part.name not in BASSES:
        words += ["low"] if part.register < LOW_REGISTER else ["high"] if part.register > HIGH_REGISTER else []
    if instrument.dark_word:
        words += [instrument.dark_word] if part.brightness < DARK else ["bright"] if part.brightness > BRIGHT else []
    return words


def qualified(name: str, words: list[str]) -> str:
    """Put adjectives before a name, after its article."""
    article = next((article for article in ("a ", "an ") if name.startswith(article)), "")
    phrase = " ".join([*words, name.removeprefix(article)])
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}" if article else phrase


def draw_words(part: Part, most: int, generator: Generator) -> list[str]:
    """Draw up to `most` of a part's adjectives, never both of two that mean the same."""
    words = adjectives(part)
    if "busy" in words:
        words.remove(pick(["busy", "fast"], generator))
    count = min(len(words), int(generator.integers(0, most + 1)))
    return [words[i] for i in generator.permutation(len(words))[:count]]


def describe_solo(part: Part, mode: str, generator: Generator) -> str:
    """Write a caption for a part by itself."""
    instrument = INSTRUMENTS[part.name]
    name = instrument.names[0] if generator.random() < 0.3 else pick(instrument.names, generator)
    words = draw_words(part, 2, generator)
    tonal = part.name not in (*DRUMS, *BASSES)
    if tonal and mode in MOODS and len(words) < 2 and generator.random() < 0.25:
        words = [pick(MOODS[mode], generator), *words]
    if words and generator.random() < 0.25:
        return f"{name}, {' and '.join(words)}"
    caption = qualified(name, words)
    if generator.random() < 0.4:  # a prompt need not be grammatical
        caption = caption.removeprefix("a ").removeprefix("an ")
    return caption


def describe_mix(parts: list[Part], generator: Generator) -> str:
    """Write a caption for parts together, the leader first."""
    names = [name for name in INSTRUMENTS[parts[0].name].names if "solo" not in name]
    named = []
    for place, part in enumerate(parts):
        name = PLAIN[part.name] if place or generator.random() < 0.6 else pick(names, generator)
        named.append(qualified(name, draw_words(part, 1, generator) if generator.random() < 0.4 else []))
    return joined(named, generator)


def joined(named: list[str], generator: Generator) -> str:
    """Join the names of a leader and its companions."""
    leader, *others = named
    if len(named) == 3 and generator.random() < 0.3:
        return f"{leader}, {others[0]} and {others[1]}"
    return f"{leader} {pick(['and', 'with', 'over'], generator)} {' and '.join(others)}"


def describe_band(genre: str, parts: list[Part], generator: Generator) -> str:
    """Write a caption for a band that plays a genre: often of the leader alone, since that is how prompts are."""
    word, leader = pick(GENRES[genre].words, generator), INSTRUMENTS[parts[0].name]
    name = pick((PLAIN[parts[0].name], f"{PLAIN[parts[0].name]} solo", *leader.names), generator)
    kind = generator.random()
    if kind < 0.6:
        caption = qualified(name, [word])
        return caption.removeprefix("a ").removeprefix("an ") if generator.random() < 0.5 else caption
    if kind < 0.75:
        return joined([qualified(name, [word]), *(PLAIN[part.name] for part in parts[1:])], generator)
    music = f"{GENRES[genre].words[-1 if genre == 'funk' else 0]} music"
    return pick((f"{music} with {name}", music, f"{genre}, {name}", f"{genre} {PLAIN[parts[0].name]}"), generator)
