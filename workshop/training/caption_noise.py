"""Add meaningless words to captions, so that the model learns to ignore them in prompts."""

from workshop.randomness import Generator, pick

BEFORE = ("a photo of", "a painting of", "a recording of", "the sound of", "a picture of", "an image of", "my")
AFTER = (
    *("highly detailed", "trending", "4k", "beautiful", "masterpiece", "award winning", "in the style of the 90s"),
    *("with feeling", "at midnight", "live", "by a famous artist", "cinematic", "best quality", "for children"),
    *("in the rain", "from a dream", "unreal engine", "sharp focus", "remastered", "vol. 2", "arr. for solo"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FEWEST_LETTERS, MOST_LETTERS = 3, 9
BEFORE_SHARE, AFTER_SHARE, INVENTED_SHARE = 0.1, 0.1, 0.1  # of the captions


def with_noise(caption: str, generator: Generator) -> str:
    """Return the caption, sometimes with a stock phrase or an invented word around it."""
    before, after, invented = generator.random(3)
    if before < BEFORE_SHARE:
        caption = f"{pick(BEFORE, generator)} {caption}"
    if after < AFTER_SHARE:
        caption = f"{caption}, {pick(AFTER, generator)}"
    if invented < INVENTED_SHARE:
        count = generator.integers(FEWEST_LETTERS, MOST_LETTERS + 1)
        word = "".join(generator.choice(list(LETTERS), count))
        caption = f"{word} {caption}" if generator.random() < 0.5 else f"{caption} {word}"
    return caption
