"""Move a frame: shift it, then rotate and zoom it about its centre.

x grows to the right and y downwards, so

- a positive translation moves the picture to the right (x) and down (y). The shift comes first and is then rotated and
  zoomed, so on the screen it is translation times zoom pixels long;
- a positive angle turns the picture counter-clockwise;
- a zoom above 1 magnifies: the camera moves in.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

WRAP = "wrap"
BORDERS = {  # OpenCV's code, and after how many widths and heights the picture repeats, if it does
    WRAP: (cv2.BORDER_WRAP, 1),
    "reflect": (cv2.BORDER_REFLECT, 2),
    "replicate": (cv2.BORDER_REPLICATE, 0),
}


def matrix(
    height_px: int,
    width_px: int,
    angle_deg: float,
    zoom: float,
    translation_x_px: float,
    translation_y_px: float,
) -> NDArray[np.float64]:
    """Return R(centre, angle, zoom) . T(translation), (3, 3), which maps a point (x, y, 1) to its new place.

    The centre is (width / 2, height / 2), so (256, 256) for 512x512, as in the original. Pixels have integer
    coordinates, so this is half a pixel to the right of the exact centre, and below it.
    Source: https://docs.opencv.org/4.x/da/d54/group__imgproc__transform.html (getRotationMatrix2D).

    Raises:
        ValueError: zoom is not above 0.
    """
    if zoom <= 0:
        raise ValueError(f"zoom is {zoom}, but must be above 0")
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), angle_deg, zoom)
    shift = np.eye(3)
    shift[:2, 2] = translation_x_px, translation_y_px
    return turn @ shift


def warp(frame: NDArray[np.uint8], forward: NDArray[np.float64], border: str = WRAP) -> NDArray[np.uint8]:
    """Return a moved copy of the frame, (height, width, 3) uint8 RGB, with linear sampling.

    No motion and translations by whole pixels are exact.

    Args:
        frame: The picture.
        forward: Where its points move, (3, 3), as from `matrix`.
        border: What comes in from outside, one of BORDERS.

    Raises:
        ValueError: The matrix has no inverse.
    """
    height_px, width_px = frame.shape[:2]
    backward = np.linalg.inv(forward)  # from a pixel of the result to its source
    if not np.isfinite(backward).all():
        raise ValueError(f"can't warp a frame by {forward.tolist()}: the zoom is too close to 0")
    code, period = BORDERS[border]
    # Pixels have integer coordinates, so adding a whole period of the border to any entry of the first row (of the
    # width; of the height in the second) moves the sources by whole periods, which changes nothing. Extreme motion
    # (millions of pixels, a zoom below 1 / width) would otherwise cost OpenCV's float32 coordinates their fraction, or
    # overflow its int32. fmod is exact, and leaves ordinary motion as it is.
    if period:
        backward[0] = np.fmod(backward[0], period * width_px)
        backward[1] = np.fmod(backward[1], period * height_px)
    warped: NDArray[np.uint8] = cv2.warpPerspective(
        frame,
        backward,
        (width_px, height_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=code,
    )
    return warped


def carried_back(change: NDArray[np.float32], forward: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a difference of pictures, (height, width, 3), as it was before a motion; unseen parts are 0."""
    size = change.shape[1], change.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    carried: NDArray[np.float32] = cv2.warpPerspective(change, forward, size, flags=flags)
    return carried
