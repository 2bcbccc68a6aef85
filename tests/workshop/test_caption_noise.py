import numpy as np

from workshop.training.caption_noise import with_noise

CAPTION = "slow church bells"


def drawn(count: int) -> list[str]:
    return [with_noise(CAPTION, np.random.default_rng(seed)) for seed in range(count)]


def test_most_captions_stay_as_they_are_and_every_one_keeps_its_words() -> None:
    captions = drawn(400)
    unchanged = captions.count(CAPTION) / len(captions)
    assert 0.65 < unchanged < 0.8  # 0.9 ** 3
    assert all(CAPTION in caption for caption in captions)
    assert drawn(30) == captions[:30]
    invented = [caption for caption in captions if len(caption.split()) == 4]
    assert {caption.startswith(CAPTION) for caption in invented} == {True, False}
