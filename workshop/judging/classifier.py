"""Say which class a picture is nearest to, by measures that are not learned and a classifier fitted on real data.

The classifier is a linear discriminant analysis over the measures of generated clips or pictures: it knows what the
generators make, and nothing of any model that is to be judged by it.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from workshop.judging.music_measures import music_measures
from workshop.judging.picture_measures import picture_measures
from workshop.music import clips
from workshop.pictures import paintings

Features = NDArray[np.float64]
Measure = Callable[[NDArray[np.uint8]], dict[str, float]]

FIRST_SEED = 10_000_000  # beyond any that a training draws
SHRINKAGE = 0.1  # of the covariance, towards the identity
SOFTENED_PX = 2.0  # standard deviation of a Gaussian
OUTERMOST = 4.0  # standard deviations; what lies beyond is brought back to there


class Classifier:
    """Find the nearest class: the one whose mean is nearest in units of the spread within classes."""

    def __init__(self, measure: Measure, images: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> None:
        """Fit on images and the names of their classes, each image also softened as a model's picture may be."""
        self.measure = measure
        softened = [cv2.GaussianBlur(image, (0, 0), SOFTENED_PX) for image in images]
        features, names = np.stack([self.features(image) for image in [*images, *softened]]), [*names, *names]
        self.mean, self.scale = features.mean(axis=0), features.std(axis=0) + 1e-6
        self.names = tuple(dict.fromkeys(names))
        labels = np.array([self.names.index(name) for name in names])
        standard = self.standard(features)
        centres = np.stack([standard[labels == i].mean(axis=0) for i in range(len(self.names))])
        within = standard - centres[labels]
        covariance = within.T @ within / max(len(within) - len(self.names), 1)
        identity = np.eye(len(covariance)) * np.trace(covariance) / len(covariance)
        values, vectors = np.linalg.eigh((1 - SHRINKAGE) * covariance + SHRINKAGE * identity)
        self.whiten = vectors / np.sqrt(values)
        self.centres = centres @ self.whiten

    def features(self, image: NDArray[np.uint8]) -> Features:
        """Return the measures of an image as a vector."""
        return np.array(list(self.measure(image).values()))

    def standard(self, features: Features) -> Features:
        """Scale features to zero mean and unit deviation over the data that was fitted on."""
        return np.asarray(np.clip((features - self.mean) / self.scale, -OUTERMOST, OUTERMOST))

    def nearest_class(self, image: NDArray[np.uint8]) -> str:
        """Return the name of the class that an image is nearest to."""
        return self.names[int(self.distances(image).argmin())]

    def distances(self, image: NDArray[np.uint8]) -> Features:
        """Return an image's distance to each of `names`."""
        return np.asarray(np.linalg.norm(self.centres - self.standard(self.features(image)) @ self.whiten, axis=1))


def music_classifier(clips_per_class: int = 40) -> Classifier:
    """Fit a classifier of the ten classes of music on clips of their own."""
    made = [clips.clip(FIRST_SEED + i, name) for name in clips.CLASSES for i in range(clips_per_class)]
    return Classifier(music_measures, [clip.picture for clip in made], [clip.class_name for clip in made])


def picture_classifier(pictures_per_class: int = 60) -> Classifier:
    """Fit a classifier of the ten classes of pictures on pictures of their own."""
    made = [paintings.picture(FIRST_SEED + i, name) for name in paintings.CLASSES for i in range(pictures_per_class)]
    return Classifier(picture_measures, [one.picture for one in made], [one.class_name for one in made])
