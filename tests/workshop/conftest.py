from functools import cache

import pytest

from workshop.judging import classifier
from workshop.music import clips
from workshop.pictures import paintings

HELD_OUT = 3  # of each class, from seed 0; the classifiers are fitted on seeds from classifier.FIRST_SEED


@pytest.fixture(scope="session")
def solos():
    """Solo clips by class name, made once and only when asked for."""
    return cache(lambda name: [clips.clip(seed, name) for seed in range(HELD_OUT)])


@pytest.fixture(scope="session")
def painted():
    """Pictures by class name, made once and only when asked for."""
    return cache(lambda name: [paintings.picture(seed, name) for seed in range(6)])


@pytest.fixture(scope="session")
def music_classifier():
    return classifier.music_classifier(clips_per_class=6)


@pytest.fixture(scope="session")
def picture_classifier():
    return classifier.picture_classifier(pictures_per_class=12)
