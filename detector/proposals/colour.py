"""The colour spaces in which selective search looks at a picture.

Every space is an array [H,W,3] of uint8 with each channel stretched to 0..255, so that one scale of colour
difference means the same in all of them (Uijlings et al., "Selective Search for Object Recognition", IJCV
2013, section 3.2). Spaces of one channel hold it three times for the same reason. OpenCV's 8-bit conversions
and the ones here use whole numbers only: every machine gets the same bytes.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError

Pixels = NDArray[np.uint8]


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


def hsv(image: Pixels) -> Pixels:
    """Hue, saturation and value of an RGB picture [H,W,3]."""
    channels = _converted(image, cv2.COLOR_RGB2HSV)
    channels[..., 0] = _HUE_TO_BYTE[channels[..., 0]]
    return channels


def lab(image: Pixels) -> Pixels:
    """CIE L*a*b* of an RGB picture [H,W,3], L* stretched to 0..255 and a*, b* centred on 128."""
    return _converted(image, cv2.COLOR_RGB2LAB)


def rgi(image: Pixels) -> Pixels:
    """The normalised red and green (R and G over R + G + B) and the intensity of an RGB picture [H,W,3]."""
    total = image.sum(axis=2, dtype=np.int32)  # H x W
    chroma = image[..., :2].astype(np.int32) * 255 // np.maximum(total, 1)[..., None]
    return np.dstack([chroma, total // 3]).astype(np.uint8)


def hue(image: Pixels) -> Pixels:
    """The hue of an RGB picture [H,W,3], three times."""
    return _thrice(hsv(image)[..., 0])


def intensity(image: Pixels) -> Pixels:
    """The grey values of an RGB picture [H,W,3], three times."""
    return _thrice(_converted(image, cv2.COLOR_RGB2GRAY))


COLOUR_SPACES: dict[str, Callable[[Pixels], Pixels]] = {
    "hsv": hsv,
    "lab": lab,
    "rgi": rgi,
    "hue": hue,
    "intensity": intensity,
}

# OpenCV's bytes hold half the hue's degrees, 0..179.
_HUE_TO_BYTE = (np.arange(256) * 255 // 179).clip(max=255).astype(np.uint8)


def _converted(image: Pixels, code: int) -> Pixels:
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def _thrice(channel: Pixels) -> Pixels:
    return np.repeat(channel[..., None], 3, axis=2)
