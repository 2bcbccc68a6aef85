"""The instruments: their presets in the soundfont, their names in captions, and what is idiomatic for them."""

from dataclasses import dataclass

from workshop.music.soundfont import DRUM_BANK, Sound


@dataclass(frozen=True)
class Instrument:
    """What an instrument plays and what it is called."""

    names: tuple[str, ...]  # the plain name first, then others that a prompt may use
    sounds: tuple[Sound, ...]
    textures: tuple[str, ...]  # as `workshop.music.parts` has them
    styles: tuple[str, ...]  # of the rhythms in `workshop.music.harmony`, or of the drums' grooves
    low: int = 48  # MIDI pitches: the range that parts are drawn in
    high: int = 84
    dark_word: str = ""  # for a dark tone, where captions speak of brightness


def sounds(*programs: int, bank: int = 0, reverb: float = 0.3, vibrato: float = 0.0) -> tuple[Sound, ...]:
    """Return presets that are played alike."""
    return tuple(Sound(program, bank, reverb, vibrato) for program in programs)


def names(plain: str, *others: str) -> tuple[str, ...]:
    """Return the plain name and the others, in which "N" stands for it."""
    return plain, *(other.replace("N", plain) for other in others)


SOLO = ("a N", "a N solo", "solo N", "a N melody", "N solo")
AN_SOLO = ("an N", "an N solo", "solo N", "N music", "N chords")

INSTRUMENTS = {
    "piano": Instrument(
        names("piano", *SOLO, "a grand piano"),
        sounds(0, 0, 1),
        ("melody and chords", "melody and chords", "chords", "arpeggios"),
        ("slow", "steady", "steady", "fast"),
        52,
        86,
    ),
    "electric piano": Instrument(
        names("electric piano", *AN_SOLO, "a Rhodes piano"),
        sounds(4),
        ("chords", "melody and chords"),
        ("slow", "steady", "funky"),
        48,
        76,
    ),
    "organ": Instrument(
        names("organ", *AN_SOLO, "a Hammond organ"),
        sounds(16, 17, 18),
        ("chords", "chords", "melody and chords"),
        ("held", "slow", "steady"),
        50,
        80,
    ),
    "accordion": Instrument(
        names("accordion", *AN_SOLO),
        sounds(21),
        ("melody and chords",),
        ("steady", "slow", "fast"),
        55,
        84,
    ),
    "acoustic guitar": Instrument(
        names("acoustic guitar", "an N", "guitar", "a guitar solo", "a guitar", "plucked guitar", "solo guitar"),
        sounds(24, 25),
        ("arpeggios", "strums", "ringing melody"),
        ("slow", "steady", "fast"),
        43,
        74,
        "mellow",
    ),
    "electric guitar": Instrument(
        names("electric guitar", "an N", "an N solo", "a distorted guitar", "an N riff", "N solo"),
        sounds(29, 29, 30, vibrato=0.15),
        ("melody", "power chords"),
        ("slow", "steady", "fast"),
        43,
        79,
        "dark",
    ),
    "bass": Instrument(
        names("bass", "a bass line", "a bass solo", "bass guitar", "a bass riff", "solo bass"),
        sounds(32, 33, 34, reverb=0.1),
        ("bass line",),
        ("slow", "steady", "jazzy"),
        28,
        45,
    ),
    "slap bass": Instrument(
        names("slap bass", "a N line", "a N solo", "slapped bass", "a N riff"),
        sounds(36, 37, reverb=0.1),
        ("slap line",),
        ("funky", "fast"),
        28,
        45,
    ),
    "synth bass": Instrument(
        names("synth bass", "a N line", "a synthesizer bass", "a bass synth", "a N riff"),
        sounds(38, 39, reverb=0.1),
        ("pulse",),
        ("steady", "fast"),
        28,
        45,
        "dark",
    ),
    "violin": Instrument(
        names("violin", *SOLO, "a fiddle"),
        sounds(40, reverb=0.4, vibrato=0.2),
        ("melody",),
        ("slow", "steady", "fast"),
        64,
        93,
    ),
    "cello": Instrument(
        names("cello", *SOLO),
        sounds(42, reverb=0.4, vibrato=0.15),
        ("melody",),
        ("held", "slow", "steady"),
        38,
        62,
    ),
    "strings": Instrument(
        names("strings", "a string section", "a string orchestra", "orchestra strings", "string chords", "violins"),
        sounds(48, 49, reverb=0.5),
        ("chords",),
        ("held", "slow"),
        52,
        82,
        "warm",
    ),
    "harp": Instrument(
        names("harp", "a N", "a N solo", "solo N", "harp arpeggios", "N solo"),
        sounds(46, reverb=0.4),
        ("ringing arpeggios", "glissandi"),
        ("steady", "fast"),
        50,
        84,
    ),
    "choir": Instrument(
        names("choir", "a N", "a N singing", "choir voices", "voices", "a choral piece"),
        sounds(52, reverb=0.6),
        ("chords",),
        ("held", "slow"),
        50,
        76,
    ),
    "trumpet": Instrument(
        names("trumpet", *SOLO, "a trumpet fanfare"),
        sounds(56, reverb=0.4),
        ("melody",),
        ("steady", "fast"),
        58,
        82,
    ),
    "saxophone": Instrument(
        names("saxophone", *SOLO, "sax", "a sax solo"),
        sounds(65, 66, vibrato=0.15),
        ("melody",),
        ("slow", "steady", "jazzy"),
        50,
        76,
    ),
    "clarinet": Instrument(
        names("clarinet", *SOLO),
        sounds(71),
        ("melody",),
        ("slow", "steady", "jazzy"),
        52,
        80,
    ),
    "flute": Instrument(
        names("flute", *SOLO),
        sounds(73, reverb=0.4, vibrato=0.1),
        ("melody",),
        ("held", "slow", "steady", "fast"),
        69,
        96,
    ),
    "synth lead": Instrument(
        names("synth lead", "synth solo", "a synth solo", "a N", "a synthesizer solo", "a synth melody", "synth"),
        sounds(80, 81, 81, vibrato=0.2),
        ("melody",),
        ("steady", "fast", "funky"),
        55,
        86,
        "warm",
    ),
    "synth pad": Instrument(
        names("synth pad", "a N", "an ambient pad", "pad chords", "a pad"),
        sounds(88, 89, 94, reverb=0.6),
        ("chords",),
        ("held", "held", "slow"),
        45,
        72,
        "dark",
    ),
    "marimba": Instrument(
        names("marimba", *SOLO),
        sounds(12),
        ("melody", "arpeggios", "melody"),
        ("steady", "fast", "funky"),
        50,
        86,
    ),
    "vibraphone": Instrument(
        names("vibraphone", *SOLO, "vibes"),
        sounds(11, reverb=0.4),
        ("ringing melody", "ringing chords"),
        ("held", "slow", "steady", "jazzy"),
        55,
        86,
    ),
    "church bells": Instrument(
        names("church bells", "bells", "tolling bells", "ringing N", "N ringing"),
        sounds(14, reverb=0.6),
        ("peal",),
        ("held", "slow", "slow", "steady"),
        56,
        79,
    ),
    "drums": Instrument(
        names("drums", "a drum beat", "a drum solo", "a drum loop", "solo drums", "a drum kit"),
        sounds(0, 8, 16, 32, 40, bank=DRUM_BANK, reverb=0.2),
        ("groove",),
        ("rock", "funky", "jazzy", "sparse"),
    ),
    "hip hop drums": Instrument(
        names("hip hop drums", "a hip hop beat", "a hip hop drum beat", "808 drums", "electronic drums"),
        sounds(25, 24, bank=DRUM_BANK, reverb=0.1),
        ("groove",),
        ("hip hop", "hip hop", "techno"),
    ),
}


@dataclass(frozen=True)
class Genre:
    """A genre: its words in captions, and the band that plays it."""

    words: tuple[str, ...]
    modes: tuple[str, ...]
    leaders: tuple[str, ...]
    style: str  # of the leader's and the bass's rhythms
    groove: str  # of the drums; empty for none
    kits: tuple[int, ...] = ()
    basses: tuple[str, ...] = ()
    beds: tuple[str, ...] = ()  # what holds chords underneath


GENRES = {
    "funk": Genre(
        ("funky", "funk"),
        ("dorian", "mixolydian"),
        ("synth lead", "synth lead", "synth lead", "electric piano", "saxophone", "trumpet", "organ", "marimba"),
        "funky",
        "funky",
        (0, 16, 24),
        ("slap bass", "synth bass"),
    ),
    "jazz": Genre(
        ("jazz", "jazzy"),
        ("dorian", "mixolydian", "major"),
        ("piano", "saxophone", "saxophone", "trumpet", "vibraphone", "clarinet", "acoustic guitar", "flute", "organ"),
        "jazzy",
        "jazzy",
        (32, 40),
        ("bass",),
    ),
    "rock": Genre(
        ("rock",),
        ("mixolydian", "minor"),
        ("electric guitar", "electric guitar", "electric guitar", "organ", "piano"),
        "steady",
        "rock",
        (0, 16),
        ("bass",),
    ),
    "techno": Genre(
        ("techno",),
        ("minor", "dorian"),
        ("synth lead", "synth lead", "synth bass", "synth pad"),
        "fast",
        "techno",
        (24, 25),
        ("synth bass",),
    ),
    "ambient": Genre(
        ("ambient",),
        ("major", "dorian"),
        ("piano", "electric piano", "vibraphone", "flute", "harp", "choir", "church bells", "synth lead"),
        "slow",
        "",
        beds=("synth pad",),
    ),
    "blues": Genre(
        ("blues", "bluesy"),
        ("mixolydian", "dorian"),
        ("electric guitar", "electric guitar", "acoustic guitar", "piano", "saxophone", "organ"),
        "jazzy",
        "jazzy",
        (0, 8),
        ("bass",),
    ),
}
