"""Put into words what was played: every adjective follows from a part's own figures."""

from workshop.chance import Generator, pick
from workshop.music.parts import Part

# The names of each instrument that a prompt may use; "a" marks those that can be counted.
NAMES: dict[str, tuple[str, ...]] = {
    "drums": ("drums", "a drum beat", "a drum solo", "a drum loop", "a beat on drums", "solo drums"),
    "bass": ("bass", "a bass line", "a bass solo", "bass guitar", "a bass riff", "solo bass"),
    "church bells": ("church bells", "bells", "tolling bells", "ringing church bells", "church bells ringing"),
    "marimba": ("marimba", "a marimba solo", "a marimba melody", "solo marimba"),
    "vibraphone": ("vibraphone", "vibes", "a vibraphone solo", "a vibraphone melody", "solo vibes"),
    "flute": ("flute", "a flute solo", "a flute melody", "solo flute", "a solo flute melody"),
    "strings": ("strings", "a string section", "violins", "orchestra strings", "a string melody"),
    "pad": ("synth pad", "a synth pad", "pad chords", "ambient pad", "a pad"),
    "guitar": ("guitar", "a guitar solo", "acoustic guitar", "plucked guitar", "a guitar melody"),
    "synth lead": ("a synth solo", "synth solo", "synth lead", "a synth lead", "a synthesizer solo", "a synth melody"),
}
# The plain name, which every mix uses half the time.
PLAIN = {name: name for name in NAMES} | {"church bells": "bells", "synth lead": "synth"}

SLOW_ONSETS_PER_S, FAST_ONSETS_PER_S = 1.3, 3.5
SPARSE_HITS_PER_S, BUSY_HITS_PER_S = 3.0, 5.5
LOW_REGISTER, HIGH_REGISTER = 0.36, 0.64
DARK, BRIGHT = 0.25, 0.75
HAS_REGISTER = {"marimba", "vibraphone", "flute", "strings", "pad", "guitar", "synth lead", "church bells"}
HAS_BRIGHTNESS = {"strings": "warm", "pad": "dark", "guitar": "mellow", "synth lead": "warm"}
STYLE_WORDS = {"funky", "jazzy", "rock", "techno", "hip hop"}


def adjectives(part: Part) -> list[str]:
    """Return all that can be said of a part: its speed or density, register, brightness and style."""
    words = []
    if part.name == "drums":
        words += ["sparse"] if part.onsets_per_s < SPARSE_HITS_PER_S else []
        words += ["busy", "fast"] if part.onsets_per_s > BUSY_HITS_PER_S else []
    else:
        words += ["slow"] if part.onsets_per_s < SLOW_ONSETS_PER_S else []
        words += ["fast", "busy"] if part.onsets_per_s > FAST_ONSETS_PER_S else []
    if part.name in HAS_REGISTER:
        words += ["low"] if part.register < LOW_REGISTER else ["high"] if part.register > HIGH_REGISTER else []
    if part.name in HAS_BRIGHTNESS:
        dark = HAS_BRIGHTNESS[part.name]
        words += [dark] if part.brightness < DARK else ["bright"] if part.brightness > BRIGHT else []
    return words + ([part.style] if part.style in STYLE_WORDS else [])


def qualified(name: str, words: list[str]) -> str:
    """Put adjectives before a name, after its article."""
    article, noun = ("a ", name[2:]) if name.startswith("a ") else ("", name)
    return article + " ".join([*words, noun])


def draw_words(part: Part, most: int, generator: Generator) -> list[str]:
    """Draw up to `most` of a part's adjectives, never both of two that say the same."""
    words = adjectives(part)
    if "busy" in words:
        words.remove(pick(["busy", "fast"], generator))
    count = min(len(words), int(generator.integers(0, most + 1)))
    return [words[i] for i in generator.permutation(len(words))[:count]]


def describe_solo(part: Part, generator: Generator) -> str:
    """Write a caption for a part by itself."""
    name = pick(NAMES[part.name], generator)
    words = draw_words(part, 2, generator)
    if words and generator.random() < 0.3:
        caption = f"{name}, {' and '.join(words)}"
    else:
        caption = qualified(name, words)
        if generator.random() < 0.3:  # a prompt need not be grammatical
            caption = caption.removeprefix("a ")
    return caption + " with echo" if part.echoes and generator.random() < 0.5 else caption


def describe_mix(parts: list[Part], generator: Generator) -> str:
    """Write a caption for parts together, the leader first."""
    leading = [name for name in NAMES[parts[0].name] if not name.removeprefix("a ").startswith("solo")]
    named = []
    for place, part in enumerate(parts):
        name = PLAIN[part.name] if place or generator.random() < 0.5 else pick(leading, generator)
        named.append(qualified(name, draw_words(part, 1 if place else 2, generator)))
    leader, others = named[0], " and ".join(named[1:])
    if len(parts) == 3 and generator.random() < 0.4:
        return f"{leader}, {named[1]} and {named[2]}"
    return f"{leader} {pick(['and', 'with', 'over'], generator)} {others}"
