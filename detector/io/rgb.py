"""RGB pixels: what an array of them is, and Pillow images of any mode converted to them (grey, palette, CMYK,
16 bits, transparency)."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.errors import ParameterError
from detector.io.orientation import FIRST_ROW_LAST, SIDEWAYS, UPRIGHT

_BAND = 256 * 1024  # pixels
_EIGHT_BITS = ((np.arange(65536, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def check_image(image: NDArray[np.generic]) -> None:
    """Raises ParameterError for an array that is no uint8 [H,W,3] with pixels, saying how to make it one."""
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size:
        return
    if not image.size:
        advice = "it has no pixels"
    elif image.dtype != np.uint8:
        advice = "convert it: (image * 255).astype(numpy.uint8) for values of 0..1"
    elif image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        advice = "make it RGB: numpy.dstack([image] * 3)"
    elif image.ndim == 3 and image.shape[2] == 4:
        advice = "take its alpha channel off: image[:, :, :3]"
    elif image.ndim == 3 and image.shape[0] == 3:
        advice = "put the channels last: image.transpose(1, 2, 0)"
    elif image.ndim == 4:
        advice = "it holds several pictures: give them one by one"
    else:
        advice = "it is no picture"
    raise ParameterError(
        f"a picture must be uint8 [H,W,3] RGB, got {image.dtype} {list(image.shape)}: {advice}"
    )


def to_rgb(image: Image.Image, orientation: int) -> NDArray[np.uint8]:
    """Convert an image of any mode, stored with an EXIF orientation, to upright RGB, uint8 [H,W,3].

    The work is done band by band: each step on the whole image would hold another copy of it in memory.
    """
    width, height = image.size
    rows = max(1, _BAND // width)
    sideways, backwards = orientation in SIDEWAYS, orientation in FIRST_ROW_LAST
    pixels = np.empty((width, height, 3) if sideways else (height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = _band_to_rgb(image.crop((0, top, width, bottom)))
        if orientation in UPRIGHT:
            band = band.transpose(UPRIGHT[orientation])
        place = slice(height - bottom, height - top) if backwards else slice(top, bottom)
        if sideways:
            pixels[:, place] = np.asarray(band)
        else:
            pixels[place] = np.asarray(band)
    return pixels


def _band_to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit RGB, with transparent pixels laid on white."""
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer.getchannel("A"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale a 16-bit grey image to 8 bits; Pillow's own conversion would clip at 255."""
    levels = np.asarray(image)  # H x W
    grey = Image.fromarray(_EIGHT_BITS[levels])
    transparent = image.info.get("transparency")  # one grey level on the 16-bit scale
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return grey
