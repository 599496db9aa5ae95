"""Drawing of an explanation: the class activation map over the image, the object's frame, and the factors of
its score below.

Letters for shapes: H and W of the image, h x w cells of the map.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from detector.errors import ParameterError
from detector.io.visualization import draw, font_for
from detector.structures.boxes import as_boxes, clip
from detector.structures.detections import Detections

_OPACITY = 0.6
_TILE = 4096  # pixels a side that OpenCV warps at once; it takes no sides beyond 32,766


def draw_explanation(image: NDArray[np.uint8], detections: Detections, index: int) -> NDArray[np.uint8]:
    """Return a copy of ``image``, uint8 [H,W,3], that shows why one of its detections has its score.

    Warm colours lie where the evidence for its class is, within the region that the network looked at, the
    more opaque the more there is. Below the picture stand the factors of the score. A small image is enlarged
    as by :func:`detector.io.visualization.draw`. Raises ParameterError for a detection that is not explained.
    """
    alone = detections[[index]]
    [detection] = alone
    explanation = detection.explanation
    if explanation is None:
        raise ParameterError(f"detection {index} is not explained: ask for more by explain=")
    heated = overlay_heat(image, explanation.activation, explanation.region)
    assert alone.classes is not None  # or it would have no name
    drawn = draw(heated, alone, alone.classes)
    factors = [str(factor) for factor in explanation.factors]
    return _with_lines_below(drawn, [f"score {detection.score:.3g} =", *factors])


def overlay_heat(
    image: NDArray[np.uint8],
    activation: NDArray[np.float32],
    region: tuple[float, float, float, float],
) -> NDArray[np.uint8]:
    """Return a copy of ``image``, uint8 [H,W,3], with a map [h,w] over a region of it, cells side by side.

    The least of the map is transparent, as is evidence against the class. What lies beyond the image is left
    out.
    """
    height, width = image.shape[:2]
    [visible] = clip(as_boxes([region]), width, height)
    left, top = np.floor(visible[:2]).astype(int).tolist()
    right, bottom = np.ceil(visible[2:]).astype(int).tolist()
    low, high = max(float(activation.min()), 0.0), float(activation.max())
    share = np.clip((activation - low) / (high - low) if high > low else activation * 0, 0, 1)
    heated = image.copy()
    for y in range(top, bottom, _TILE):
        for x in range(left, right, _TILE):
            part = heated[y : min(y + _TILE, bottom), x : min(x + _TILE, right)]  # a view
            part[:] = _blended(part, _read_map(share.astype(np.float32), region, (x, y), part.shape[:2]))
    return heated


def _read_map(
    activation: NDArray[np.float32],
    region: tuple[float, float, float, float],
    corner: tuple[int, int],
    size: tuple[int, ...],
) -> NDArray[np.float32]:
    """Return a map [h,w] over a region at the pixels of a part of the image, rows and columns of ``size``
    from ``corner`` on: bicubic, in 0..1."""
    (rows, columns), (height, width) = size, activation.shape
    x1, y1, x2, y2 = region
    across, down = width / (x2 - x1), height / (y2 - y1)  # cells a pixel
    to_cells = np.array(
        [
            [across, 0, (corner[0] + 0.5 - x1) * across - 0.5],
            [0, down, (corner[1] + 0.5 - y1) * down - 0.5],
        ]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    read = cv2.warpAffine(activation, to_cells, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(read, 0, 1).astype(np.float32)


def _blended(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return pixels [H,W,3] under heat [H,W] in 0..1."""
    coloured = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    opacity = _OPACITY * np.minimum(2 * heat, 1)[..., None]
    return np.rint(pixels * (1 - opacity) + coloured * opacity).astype(np.uint8)


def _with_lines_below(drawn: NDArray[np.uint8], words: list[str]) -> NDArray[np.uint8]:
    """Return a drawing [H,W,3] with a dark strip below, on which stand the words, as many a line as fit."""
    canvas = Image.fromarray(drawn)
    font = font_for(canvas)
    margin = round(0.5 * font.size)
    lines = _lines(words, canvas.width - 2 * margin, font)
    step = round(1.5 * font.size)
    whole = Image.new("RGB", (canvas.width, canvas.height + step * len(lines) + margin), (24, 24, 24))
    whole.paste(canvas, (0, 0))
    pen = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        middle = canvas.height + margin / 2 + step * (number + 0.5)
        pen.text((margin, middle), line, font=font, fill="white", anchor="lm")
    return np.array(whole)


def _lines(words: list[str], width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Join a first word and factors, with "x" between these, into lines of at most ``width`` pixels; a word
    that is longer by itself is a line."""
    lines = [words[0]]
    for number, word in enumerate(words[1:]):
        joined = f"{lines[-1]} {word}" if number == 0 else f"{lines[-1]} x {word}"
        if font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word if number == 0 else f"x {word}")
    return lines
