"""The colour spaces of selective search.

Every space is an array of planes [C,H,W] of uint8, each stretched to 0..255, so that one scale of colour
difference means the same in all of them (Uijlings et al., "Selective Search for Object Recognition", IJCV
2013, section 3.2). Spaces of one channel have one plane, which stands for three equal ones. OpenCV's 8-bit
conversions and the ones here use whole numbers only: every machine gets the same bytes.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError

Pixels = NDArray[np.uint8]
Planes = NDArray[np.uint8]


def check_rgb(image: Pixels) -> None:
    """Raise ParameterError unless ``image`` is an array [H,W,3] of uint8 with at least one pixel."""
    if not isinstance(image, np.ndarray):
        raise ParameterError(f"the image must be a numpy array [H,W,3] of uint8, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise ParameterError(
            f"the image must be uint8 with values 0..255, got {image.dtype}: convert it first"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ParameterError(
            f"the image must be RGB of shape [H,W,3], got {list(image.shape)}: convert it to RGB first"
        )


def hsv(image: Pixels) -> Planes:
    """Convert an RGB image, uint8 [H,W,3], to hue, saturation and value, uint8 [3,H,W]."""
    planes = _converted(image, cv2.COLOR_RGB2HSV)
    planes[0] = _HUE_TO_BYTE[planes[0]]
    return planes


def lab(image: Pixels) -> Planes:
    """Convert an RGB image, uint8 [H,W,3], to CIE L*a*b*, uint8 [3,H,W].

    L* is stretched to 0..255, a* and b* are centred on 128.
    """
    return _converted(image, cv2.COLOR_RGB2LAB)


def rgi(image: Pixels) -> Planes:
    """Convert an RGB image, uint8 [H,W,3], to normalised red and green and the intensity, uint8 [3,H,W].

    Red and green are divided by R + G + B; the intensity is the mean of the three.
    """
    # Quotients of whole numbers this small are further from the next one than float32 can err.
    red, green, blue = (plane.astype(np.float32) for plane in cv2.split(image))
    total = red + green + blue
    share = np.maximum(total, 1)
    return np.stack([red * 255 / share, green * 255 / share, total / 3]).astype(np.uint8)


def hue(image: Pixels) -> Planes:
    """Convert an RGB image, uint8 [H,W,3], to its hue, uint8 [1,H,W]."""
    return hsv(image)[:1]


def intensity(image: Pixels) -> Planes:
    """Convert an RGB image, uint8 [H,W,3], to grey values, uint8 [1,H,W]."""
    return _converted(image, cv2.COLOR_RGB2GRAY)


COLOUR_SPACES: dict[str, Callable[[Pixels], Planes]] = {
    "hsv": hsv,
    "lab": lab,
    "rgi": rgi,
    "hue": hue,
    "intensity": intensity,
}

# OpenCV's bytes hold half the hue's degrees, 0..179.
_HUE_TO_BYTE = (np.arange(256) * 255 // 179).clip(max=255).astype(np.uint8)


def _converted(image: Pixels, code: int) -> Planes:
    return np.stack(cv2.split(cv2.cvtColor(image, code)))
