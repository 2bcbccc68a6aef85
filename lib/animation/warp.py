"""Move a frame: shift it, then rotate and zoom it about its centre, the borders wrapped round.

The seed of the next frame is the previous one, warped. x grows to the right and y downwards, so

- a positive translation moves the picture to the right (x) and down (y). The shift comes first and is rotated
  and zoomed with the rest: on the screen it is translation times zoom pixels long;
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
    """Build R(centre, angle, zoom) . T(translation), which says where a point (x, y, 1) of the frame goes.

    The centre is (width / 2, height / 2), so (256, 256) for 512x512, as in the original. Pixels have whole
    coordinates, so this is half a pixel to the right of the very middle, and below it. Returns (3, 3).
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
    """Return the frame moved by its matrix, sampled linearly; what leaves at one border comes in opposite.

    frame: (height, width, 3) uint8 RGB; the result is a new one of the same size. Standing still and moving
    by whole pixels are exact. Raises ValueError for a zoom of 0 or less, and for numbers that overflow.
    """
    height_px, width_px = frame.shape[:2]
    if zoom <= 0:
        raise ValueError(f"zoom is {zoom}, but must be above 0")
    forward = matrix(height_px, width_px, angle_deg, zoom, translation_x_px, translation_y_px)
    backward = np.linalg.inv(forward)  # from a pixel of the result to its source
    if not np.isfinite(backward).all():
        motion = f"angle {angle_deg}, zoom {zoom}, translation ({translation_x_px}, {translation_y_px})"
        raise ValueError(f"cannot warp a frame by {motion}: its matrix overflows")
    # Pixels have whole coordinates, so a whole width more in any entry of the first row (a height, in the
    # second) moves sources by whole widths, which wrapping undoes. Left in, those of extreme motion (millions
    # of pixels, a zoom below 1 / width) cost OpenCV's float32 coordinates their fraction, or overflow its
    # int32. fmod is exact, and leaves ordinary motion as it is.
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
