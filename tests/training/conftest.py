from functools import cache

import pytest

from training import measures, music, pictures

HELD_OUT = 3  # of each class, from seed 0; the classifiers are fitted on seeds from measures.FIRST_SEED


@pytest.fixture(scope="session")
def clips():
    """Solo clips by class name, made once and only when asked for."""
    return cache(lambda name: [music.clip(seed, name) for seed in range(HELD_OUT)])


@pytest.fixture(scope="session")
def paintings():
    """Pictures by class name, made once and only when asked for."""
    return cache(lambda name: [pictures.picture(seed, name) for seed in range(6)])


@pytest.fixture(scope="session")
def music_classifier():
    return measures.music_classifier(clips_per_class=6)


@pytest.fixture(scope="session")
def picture_classifier():
    return measures.picture_classifier(pictures_per_class=12)
