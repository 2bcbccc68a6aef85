"""Measure an RGB picture: colours by region, the shape that stands off from its border, edges. Nothing is learned.

Pictures of any size are measured at 128 by 128, their shape at 256 by 256. Colours are CIE L*a*b*.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SIZE, SHAPE_SIZE = 128, 256
BORDER = 12  # columns of a shape's picture that show its ground
SKIN_LAB = np.array([[88, 8, 14], [80, 12, 24], [67, 17, 27], [47, 17, 22], [33, 14, 18]])


def picture_measures(picture: NDArray[np.uint8]) -> dict[str, float]:
    """Return every measure of a picture (height, width, 3) by its name."""
    lab = to_lab(picture, SIZE)
    return {**colour_measures(lab), **edge_measures(lab[..., 0]), **shape_measures(to_lab(picture, SHAPE_SIZE))}


def to_lab(picture: NDArray[np.uint8], size: int) -> Array:
    """Return a picture in L*a*b* at a smaller size."""
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def centre_colour(picture: NDArray[np.uint8]) -> Array:
    """Return the median colour (L, a, b) of the middle ninth of a picture."""
    return np.asarray(np.median(to_lab(picture, 96)[40:56, 40:56].reshape(-1, 3), axis=0))


def ground_colour(picture: NDArray[np.uint8]) -> Array:
    """Return the median colour (L, a, b) of a picture's four corners."""
    lab = to_lab(picture, 96)
    corners = [
        lab[rows, columns].reshape(-1, 3)
        for rows in (slice(8), slice(-8, None))
        for columns in (slice(8), slice(-8, None))
    ]
    return np.asarray(np.median(np.concatenate(corners), axis=0))


def colour_measures(lab: Array) -> dict[str, float]:
    """Measure the colours of bands from top to bottom, of the centre and the sides, and how they vary."""
    third = SIZE // 3
    regions = {
        "top": lab[:third],
        "middle": lab[third : 2 * third],
        "bottom": lab[2 * third :],
        "centre": lab[third : 2 * third, third : 2 * third],
        "sides": np.concatenate([lab[:, : SIZE // 8], lab[:, -SIZE // 8 :]], axis=1),
    }
    measures = {}
    for name, region in regions.items():
        for axis, mean in zip("Lab", region.reshape(-1, 3).mean(axis=0), strict=True):
            measures[f"{name}_{axis}"] = float(mean)
        measures[f"{name}_swing"] = float(region[..., 0].std())
    rows = lab.mean(axis=1)
    total = float(((lab - lab.mean(axis=(0, 1))) ** 2).sum(axis=2).mean()) + 1e-3
    bands = float(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean())
    skin = np.min([np.linalg.norm(regions["centre"] - colour, axis=2) for colour in SKIN_LAB], axis=0)
    hue = np.histogram(
        np.arctan2(lab[..., 2], lab[..., 1]), 6, (-np.pi, np.pi), weights=np.hypot(lab[..., 1], lab[..., 2])
    )
    return {
        **measures,
        **{f"hue_{i}": float(share) for i, share in enumerate(np.sqrt(hue[0] / (hue[0].sum() + SIZE)))},
        "bands_share": bands / total,
        "contrast": float(np.log(total)),
        "skin": float((skin < 14).mean()),
        "asymmetry": float(np.abs(lab - lab[:, ::-1]).mean() / np.sqrt(total)),
        "greatest_step": float(np.linalg.norm(np.diff(rows, axis=0), axis=1).max()),
    }


def edge_measures(light: Array) -> dict[str, float]:
    """Measure edges: how dense from top to bottom, in which directions; and how many bright specks."""
    across, down = cv2.Sobel(light, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(light, cv2.CV_32F, 0, 1) / 8
    strength = np.hypot(across, down)
    angles, _ = np.histogram(np.arctan2(down, across) % np.pi, 6, (0, np.pi), weights=strength)
    specks = light - cv2.morphologyEx(light, cv2.MORPH_OPEN, np.ones((4, 4), np.uint8))
    thirds = np.array_split(strength, 3)
    return {
        **{
            f"edges_{place}": float(np.sqrt((part > 2).mean()))
            for place, part in zip(("top", "middle", "bottom"), thirds, strict=True)
        },
        **{f"direction_{i}": float(share) for i, share in enumerate(angles / (angles.sum() + SIZE))},
        "specks_top": float(np.sqrt((specks[: SIZE // 3] > 8).mean())),
        "specks": float(np.sqrt((specks > 8).mean())),
        "flat_share": float((strength < 0.5).mean()),
    }


def shape_measures(lab: Array) -> dict[str, float]:
    """Measure the largest region that stands off from the border: its area, roundness, corners and how full its hulls.

    The ground may be a vertical gradient: each row is compared with its own ends. The threshold is Otsu's.
    """
    ends = np.concatenate([lab[:, :BORDER], lab[:, -BORDER:]], axis=1)
    distance = np.linalg.norm(lab - np.median(ends, axis=1, keepdims=True), axis=2)
    grey = np.clip(distance * 255 / max(float(distance.max()), 1), 0, 255).astype(np.uint8)
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea, default=None)
    names = ("area", "circularity", "extent", "solidity", "circle_fill", "triangle_fill", "corners", "is_alone")
    if largest is None or cv2.contourArea(largest) < 50:
        return dict.fromkeys(names, 0.0)
    area, perimeter = cv2.contourArea(largest), cv2.arcLength(cv2.approxPolyDP(largest, 1, True), True)
    (_, (width, height), _), (_, radius) = cv2.minAreaRect(largest), cv2.minEnclosingCircle(largest)
    triangle, _ = cv2.minEnclosingTriangle(largest)
    values = (
        np.sqrt(area) / SHAPE_SIZE,
        4 * np.pi * area / perimeter**2,
        area / max(width * height, 1),
        area / cv2.contourArea(cv2.convexHull(largest)),
        area / (np.pi * radius**2),
        area / max(triangle, 1),
        min(len(cv2.approxPolyDP(largest, 0.03 * perimeter, True)), 12),
        area / max(float(np.count_nonzero(mask)), 1),
    )
    return {name: float(value) for name, value in zip(names, values, strict=True)}
