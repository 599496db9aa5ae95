"""Drawing of detections on their image.

Sizes follow the image: a line, a tag and its text take the same share of a thumbnail and of a poster.
The work is bounded whatever the image's shape: a frame costs what its lines cover, a tag a fixed number of
places. :mod:`detector.io.tag_placement` places the tags.
Letters for shapes: D detections, H and W of the image.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from detector.errors import ParameterError
from detector.io.atomic_write import write_whole
from detector.io.tag_placement import Span, place_tags
from detector.structures.classes import ClassList
from detector.structures.detections import Detections

Colour = tuple[int, int, int]

MOST_TAGS = 200
"""Most tags on one image: more would hide it, and each other."""

JPEG_SIDE = 65500
"""The longest side, in pixels, that libjpeg writes."""

# Text on a smaller image would be illegible or hide the objects: such an image is enlarged first.
_MIN_SIDE = 480
_ENLARGED_SIDE = 720

_GOLDEN_RATIO = 0.618034

_MARK = ("Software", "googlenet-detector: drawn detections")
_MARK_CHUNK = "\0".join(_MARK).encode("ascii")
_MARK_AT = 33  # after a PNG's signature and its header chunk


def draw(
    image: NDArray[np.uint8],
    detections: Detections,
    classes: ClassList,
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.uint8]:
    """Return a copy of ``image``, uint8 [H,W,3], with a frame and a tag ("dog 0.87") for each detection.

    The MOST_TAGS detections with the highest scores have tags, the others a frame alone. A class has the same
    colour in every image. Where detections overlap, the one with the higher score lies on top. An image whose
    longer side is below 480 pixels is enlarged to 720, so that its text is legible; any other keeps its size.

    ``check`` is called before each frame and each tag; what it raises ends the drawing.
    """
    canvas = Image.fromarray(image)
    scale = 1.0
    if max(canvas.size) < _MIN_SIDE:
        scale = _ENLARGED_SIDE / max(canvas.size)
        canvas = canvas.resize(
            [max(1, round(side * scale)) for side in canvas.size], Image.Resampling.LANCZOS
        )
    style = _Style.of(canvas)

    best_first = np.argsort(-detections.scores, kind="stable")
    boxes = [_whole_pixels(detections.boxes[i] * scale, canvas.size) for i in best_first]
    colours = [colour(int(detections.labels[i])) for i in best_first]
    for box, tint in reversed(list(zip(boxes, colours, strict=True))):
        check()
        _draw_frame(canvas, box, tint, style)

    texts: list[str] = []
    for i in best_first[:MOST_TAGS]:
        check()
        name, score = classes.names[detections.labels[i]], f"{detections.scores[i]:.2f}"
        texts.append(_shortened(name, score, canvas.width - 2 * style.padding, style.font))
    widths = [min(canvas.width, round(style.font.getlength(text)) + 2 * style.padding) for text in texts]
    height = min(canvas.height, style.tag_height)
    tags = place_tags(boxes[: len(texts)], widths, height, canvas.size, check)
    for tag, text, tint in reversed(list(zip(tags, texts, colours[: len(texts)], strict=True))):
        check()
        _draw_tag(canvas, tag, text, tint, style)
    return np.array(canvas)  # H x W x 3


def save(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write an image, uint8 [H,W,3], as PNG or JPEG, by the path's suffix; a reader never sees half a file.

    A PNG is marked as a drawing, which :func:`is_drawing` finds.

    Raises ParameterError for another suffix or a JPEG over JPEG_SIDE, WriteError for a file that cannot be
    written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ParameterError(f"cannot save {path.name}: name the picture .png, .jpg or .jpeg")
    if path.suffix.lower() != ".png" and max(image.shape[:2]) > JPEG_SIDE:
        raise ParameterError(f"cannot save {path.name}: JPEG has at most {JPEG_SIDE} pixels a side; use .png")
    encoded = BytesIO()
    if path.suffix.lower() == ".png":
        png_info = PngInfo()
        png_info.add_text(*_MARK)
        Image.fromarray(image).save(encoded, "PNG", pnginfo=png_info)
    else:
        Image.fromarray(image).save(encoded, "JPEG", quality=92)
    write_whole(path, encoded.getvalue())


def is_drawing(path: Path) -> bool:
    """Return whether a file is a PNG that :func:`save` wrote; False for one that cannot be read.

    Only a regular file is opened: opening a pipe would wait for its writer.
    """
    if path.suffix.lower() != ".png":
        return False
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(_MARK_AT + 8 + len(_MARK_CHUNK))
    except OSError:
        return False
    return start.startswith(b"\x89PNG") and start[_MARK_AT + 4 :].startswith(b"tEXt" + _MARK_CHUNK)


@cache
def colour(label: int) -> Colour:
    """Return the colour of a class, RGB in 0..255: bright, and far from those of its neighbours in the list.

    Hues step by the golden ratio, so that new hues stay far from earlier ones. Lightness cycles through three
    values. Both are in OKLCH, where equal steps look equal (bottosson.github.io/posts/oklab).
    """
    lightness = (0.76, 0.66, 0.86)[label % 3]
    hue = 2 * np.pi * ((0.08 + label * _GOLDEN_RATIO) % 1)
    a, b = 0.15 * np.cos(hue), 0.15 * np.sin(hue)
    lms = np.array([[1, 0.3963378, 0.2158038], [1, -0.1055613, -0.0638542], [1, -0.0894842, -1.2914855]])
    rgb = np.array(
        [
            [4.0767417, -3.3077116, 0.2309699],
            [-1.2684380, 2.6097574, -0.3413194],
            [-0.0041961, -0.7034186, 1.7076147],
        ]
    )
    linear = np.clip(rgb @ (lms @ [lightness, a, b]) ** 3, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = np.rint(encoded * 255).astype(int).tolist()
    return red, green, blue


@dataclass(frozen=True)
class _Style:
    """The font, and the sizes in pixels of what is drawn."""

    font: ImageFont.FreeTypeFont
    line: int
    radius: int
    padding: int
    tag_height: int

    @classmethod
    def of(cls, canvas: Image.Image) -> "_Style":
        unit, font = _unit_of(canvas), font_for(canvas)
        size = font.size
        return cls(font, max(2, round(0.5 * unit)), round(0.35 * size), round(0.4 * size), round(1.5 * size))


def font_for(canvas: Image.Image) -> ImageFont.FreeTypeFont:
    """Return the font of the text on an image of this size."""
    font = ImageFont.load_default(max(11, round(2.9 * _unit_of(canvas))))
    assert isinstance(font, ImageFont.FreeTypeFont)  # a bitmap font only where Pillow lacks FreeType
    return font


def _unit_of(canvas: Image.Image) -> float:
    """Return a hundredth of an image's side; on a long strip the shorter side decides: lines and text must
    fit it."""
    return min((canvas.width * canvas.height) ** 0.5, 2 * min(canvas.size)) / 100


def _whole_pixels(box: NDArray[np.float32], size: tuple[int, int]) -> Span:
    """Round a box to the whole pixels it covers, inside the image and at least one."""
    width, height = size
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)


def _shortened(name: str, score: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Join a name and a score, the name cut so that both fit ``width`` pixels. The score is never cut."""
    whole = f"{name} {score}"
    if font.getlength(whole) <= width:
        return whole
    fitting = bisect_right(
        range(1, len(name)), width, key=lambda letters: ceil(font.getlength(f"{name[:letters]}… {score}"))
    )
    return f"{name[:fitting]}… {score}"


def _draw_frame(canvas: Image.Image, box: Span, tint: Colour, style: _Style) -> None:
    halo = max(1, style.line // 3)  # dark lines set the coloured one off from a background of its colour
    thickness = style.line + 2 * halo
    core = 2 * (max(style.radius, thickness) + halo) + 3
    width, height = min(box[2] - box[0], core), min(box[3] - box[1], core)
    dark = _ring(width, height, style.radius, thickness, 0.35)
    line = np.zeros_like(dark)
    if min(width, height) > 2 * halo:
        line[halo:-halo, halo:-halo] = _ring(
            width - 2 * halo, height - 2 * halo, style.radius, style.line, 1.0
        )
    dark = np.where(line == 255, np.uint8(0), dark)  # the coloured line hides it there
    _paint(canvas, box, (0, 0, 0), dark)
    _paint(canvas, box, tint, line)


def _draw_tag(canvas: Image.Image, tag: Span, text: str, tint: Colour, style: _Style) -> None:
    x1, y1, x2, y2 = tag
    core = 2 * style.radius + 3
    width, height = min(x2 - x1, core), min(y2 - y1, core)
    _paint(canvas, tag, tint, _ring(width, height, style.radius, thickness=core, opacity=0.94))
    ink = "black" if np.dot(tint, (0.299, 0.587, 0.114)) > 110 else "white"
    ImageDraw.Draw(canvas).text(
        (x1 + style.padding, (y1 + y2) / 2), text, font=style.font, fill=ink, anchor="lm"
    )


@lru_cache(64)  # most frames of an image have the same corners
def _ring(width: int, height: int, radius: int, thickness: int, opacity: float) -> NDArray[np.uint8]:
    """Return the mask, uint8 [height,width], of the border of a rectangle with round corners."""
    radius = min(radius, width // 2, height // 2)
    x = np.abs(np.arange(width, dtype=np.float32) + 0.5 - width / 2) - width / 2 + radius
    y = np.abs(np.arange(height, dtype=np.float32) + 0.5 - height / 2) - height / 2 + radius
    beyond = np.hypot(np.maximum(x, 0)[None, :], np.maximum(y, 0)[:, None])
    distance = beyond + np.minimum(np.maximum(x[None, :], y[:, None]), 0) - radius  # to the edge, < 0 inside
    coverage = np.clip(0.5 - distance, 0, 1) * np.clip(0.5 + distance + thickness, 0, 1)
    return np.rint(coverage * opacity * 255).astype(np.uint8)


def _paint(canvas: Image.Image, span: Span, fill: Colour, mask: NDArray[np.uint8]) -> None:
    """Fill ``span`` through a mask that is no larger: the mask's middle row and column are repeated.

    Corners are painted through their part of the mask, sides line by line: a frame costs what its lines
    cover, not what they enclose.
    """
    x1, y1, x2, y2 = span
    for top, rows, height in _parts(mask.shape[0], y1, y2):
        for left, columns, width in _parts(mask.shape[1], x1, x2):
            part = mask[rows, columns]
            if not part.any():
                continue
            if part.shape == (height, width):
                canvas.paste(fill, (left, top), Image.fromarray(part))
                continue
            for first, last, opacity in _runs(part.ravel()):
                across = (0, width) if part.shape[1] == 1 else (first, last)
                down = (0, height) if part.shape[0] == 1 else (first, last)
                box = left + across[0], top + down[0], left + across[1], top + down[1]
                if opacity == 255:
                    canvas.paste(fill, box)  # far faster than through a mask
                elif opacity:
                    size = box[2] - box[0], box[3] - box[1]
                    canvas.paste(fill, box, Image.new("L", size, opacity))


def _parts(small: int, start: int, stop: int) -> list[tuple[int, slice, int]]:
    """Split the pixels from ``start`` to ``stop`` into three parts that show ``small`` mask pixels.

    The middle mask pixel is repeated. Each part is its first pixel, the slice of mask pixels, and its length.
    """
    middle, repeats = small // 2, stop - start - small + 1
    return [
        (start, slice(0, middle), middle),
        (start + middle, slice(middle, middle + 1), repeats),
        (start + middle + repeats, slice(middle + 1, small), small - middle - 1),
    ]


def _runs(values: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Return the runs of equal values: first index, index after the last, and the value."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(first, last, int(values[first])) for first, last in pairwise(edges)]
