"""Move a frame: shift it, then rotate and zoom it about its centre, with wrap-around at the borders.

x grows to the right and y downwards, so

- a positive translation moves the picture to the right (x) and down (y). The shift comes first and is then rotated and
  zoomed, so on the screen it is translation times zoom pixels long;
- a positive angle turns the picture counter-clockwise;
- a zoom above 1 magnifies: the camera moves in.
"""

import cv2
import numpy as np
from numpy.typing import NDArray


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
    """
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), angle_deg, zoom)
    shift = np.eye(3)
    shift[:2, 2] = translation_x_px, translation_y_px
    return turn @ shift


def warp(
    frame: NDArray[np.uint8],
    angle_deg: float,
    zoom: float,
    translation_x_px: float,
    translation_y_px: float,
) -> NDArray[np.uint8]:
    """Return a moved copy of the frame, (height, width, 3) uint8 RGB, with linear sampling and wrap-around.

    No motion and translations by whole pixels are exact.

    Raises:
        ValueError: zoom is not above 0, or the numbers overflow.
    """
    height_px, width_px = frame.shape[:2]
    if zoom <= 0:
        raise ValueError(f"zoom is {zoom}, but must be above 0")
    forward = matrix(height_px, width_px, angle_deg, zoom, translation_x_px, translation_y_px)
    backward = np.linalg.inv(forward)  # from a pixel of the result to its source
    if not np.isfinite(backward).all():
        motion = f"angle {angle_deg}, zoom {zoom}, translation ({translation_x_px}, {translation_y_px})"
        raise ValueError(f"can't warp a frame by {motion}: the matrix overflows")
    # Pixels have integer coordinates, so adding a whole width to any entry of the first row (a height, in the second)
    # moves the sources by whole widths, which wrap-around undoes. Extreme motion (millions of pixels, a zoom below
    # 1 / width) would otherwise cost OpenCV's float32 coordinates their fraction, or overflow its int32. fmod is exact,
    # and leaves ordinary motion as it is.
    backward[0] = np.fmod(backward[0], width_px)
    backward[1] = np.fmod(backward[1], height_px)
    warped: NDArray[np.uint8] = cv2.warpPerspective(
        frame,
        backward,
        (width_px, height_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    return warped
