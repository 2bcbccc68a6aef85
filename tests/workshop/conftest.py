"""Pictures that many tests look at: each is rendered once in a session, and only when one asks for it."""

from functools import cache

import pytest

from workshop.judging import classifier
from workshop.judging.classifier import Classifier
from workshop.music import clips
from workshop.music.clips import Clip
from workshop.pictures import paintings
from workshop.pictures.paintings import Picture


class Rendered:
    """Clips and pictures by seed and class."""

    def __init__(self) -> None:
        self.clip = cache(clips.clip)
        self.picture = cache(paintings.picture)

    def solos(self, class_name: str) -> list[Clip]:
        """Return clips that the classifier, fitted on seeds from FIRST_SEED, has not met."""
        return [self.clip(seed, class_name) for seed in range(2)]

    def painted(self, class_name: str) -> list[Picture]:
        return [self.picture(seed, class_name) for seed in range(4)]


@pytest.fixture(scope="session")
def rendered() -> Rendered:
    return Rendered()


@pytest.fixture(scope="session")
def music_classifier() -> Classifier:
    return classifier.music_classifier(clips_per_class=4)


@pytest.fixture(scope="session")
def picture_classifier() -> Classifier:
    return classifier.picture_classifier(pictures_per_class=6)
