"""Clips and pictures that many tests look at: each is rendered once in a session, and only when a test needs it."""

from functools import cache

import pytest

from workshop.examples import Example
from workshop.music import clips
from workshop.pictures import paintings


class Rendered:
    """Clips and pictures by seed and class."""

    def __init__(self) -> None:
        self.clip = cache(clips.clip)
        self.picture = cache(paintings.picture)

    def painted(self, class_name: str) -> list[Example]:
        return [self.picture(seed, class_name) for seed in range(4)]


@pytest.fixture(scope="session")
def rendered() -> Rendered:
    return Rendered()
