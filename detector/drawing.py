"""Detections drawn on their picture.

Sizes follow the picture: a line, a tag and its text take the same share of a thumbnail and of a poster.
Letters for shapes: D detections, H and W of the picture.
"""

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from detector.classes import ClassList
from detector.errors import ParameterError
from detector.files import write_whole
from detector.results import Detections

Colour = tuple[int, int, int]
_Span = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels

# Text on a smaller picture would be illegible or hide the objects: such a picture is enlarged first.
_MIN_SIDE = 480
_ENLARGED_SIDE = 720

_GOLDEN_RATIO = 0.618034


def draw(image: NDArray[np.uint8], detections: Detections, classes: ClassList) -> NDArray[np.uint8]:
    """The picture [H,W,3] with a frame and a tag ("dog 0.87") for each detection; ``image`` stays as it is.

    A class has the same colour in every picture. Where detections overlap, the better lies on top. A
    picture whose longer side is below 480 pixels comes back enlarged to 720, for the text's sake; any
    other keeps its size.
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
    texts = [f"{classes.names[detections.labels[i]]} {detections.scores[i]:.2f}" for i in best_first]
    texts = [_shortened(text, canvas.width - 2 * style.padding, style.font) for text in texts]
    tags = _place_tags(boxes, texts, canvas, style)

    for box, tint in reversed(list(zip(boxes, colours, strict=True))):
        _draw_frame(canvas, box, tint, style)
    for tag, text, tint in reversed(list(zip(tags, texts, colours, strict=True))):
        _draw_tag(canvas, tag, text, tint, style)
    return np.array(canvas)  # H x W x 3


def save(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write a picture [H,W,3] as PNG or JPEG, by the name's suffix; a reader never sees half a file.

    Raises ParameterError for another suffix, WriteError for a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ParameterError(f"cannot save {path.name}: name the picture .png, .jpg or .jpeg")
    encoded = BytesIO()
    if path.suffix.lower() == ".png":
        Image.fromarray(image).save(encoded, "PNG")
    else:
        Image.fromarray(image).save(encoded, "JPEG", quality=92)
    write_whole(path, encoded.getvalue())


@cache
def colour(label: int) -> Colour:
    """The colour of a class: bright, and far from those of its neighbours in the list.

    Hues step by the golden ratio, which never comes close to an earlier one for long; lightness steps
    along, in OKLCH, where equal steps look equal (bottosson.github.io/posts/oklab).
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
    """What is drawn how large, in pixels."""

    font: ImageFont.FreeTypeFont
    line: int
    radius: int
    padding: int
    tag_height: int

    @classmethod
    def of(cls, canvas: Image.Image) -> "_Style":
        unit = (canvas.width * canvas.height) ** 0.5 / 100
        size = max(11, round(2.9 * unit))
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # a bitmap one only where Pillow lacks FreeType
        return cls(font, max(2, round(0.5 * unit)), round(0.35 * size), round(0.4 * size), round(1.5 * size))


def _whole_pixels(box: NDArray[np.float32], size: tuple[int, int]) -> _Span:
    """The box as the pixels it covers: inside the picture, and at least one."""
    width, height = size
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, or as much of it as fits, its score kept."""
    name, score = text.rsplit(" ", 1)
    while name and font.getlength(text) > width:
        name = name[:-1]
        text = f"{name}… {score}"
    return text


def _place_tags(boxes: list[_Span], texts: list[str], canvas: Image.Image, style: _Style) -> list[_Span]:
    """A place for each tag, the best detection's first: free if there is one, else the least covered."""
    taken: list[_Span] = []
    for box, text in zip(boxes, texts, strict=True):
        width = min(canvas.width, round(style.font.getlength(text)) + 2 * style.padding)
        places = _tag_places(box, width, canvas, style)
        taken.append(min(places, key=lambda place: sum(_shared(place, other) for other in taken)))
    return taken


def _tag_places(box: _Span, width: int, canvas: Image.Image, style: _Style) -> list[_Span]:
    """Where a tag may go, most wanted first: on the box, in its top corners, under it, at its bottom."""
    x1, y1, x2, y2 = box
    height = min(canvas.height, style.tag_height)
    anchors = [(x1, y1 - height), (x1, y1), (x2 - width, y1 - height), (x2 - width, y1)]
    anchors += [(x1, y2), (x1, y2 - height), (x2 - width, y2), (x2 - width, y2 - height)]
    anchors += [(x1, y) for y in range(y1 + height, y2 - height, height)]
    inside = [(x, y) for x, y in anchors if 0 <= y <= canvas.height - height]
    lefts = [(min(max(x, 0), canvas.width - width), y) for x, y in inside or [(x1, 0)]]
    return [(x, y, x + width, y + height) for x, y in lefts]


def _shared(a: _Span, b: _Span) -> int:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def _draw_frame(canvas: Image.Image, box: _Span, tint: Colour, style: _Style) -> None:
    halo = max(1, style.line // 3)  # dark lines around the coloured one part it from a background like it
    for inset, thickness, fill, opacity in (
        (0, style.line + 2 * halo, (0, 0, 0), 0.35),
        (halo, style.line, tint, 1.0),
    ):
        x1, y1, x2, y2 = box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset
        if x1 < x2 and y1 < y2:
            mask = _ring(x2 - x1, y2 - y1, style.radius, thickness)
            canvas.paste(fill, (x1, y1), Image.fromarray(np.rint(mask * opacity * 255).astype(np.uint8)))


def _draw_tag(canvas: Image.Image, tag: _Span, text: str, tint: Colour, style: _Style) -> None:
    x1, y1, x2, y2 = tag
    mask = _ring(x2 - x1, y2 - y1, style.radius, thickness=y2 - y1)
    canvas.paste(tint, (x1, y1), Image.fromarray(np.rint(mask * 0.94 * 255).astype(np.uint8)))
    ink = "black" if np.dot(tint, (0.299, 0.587, 0.114)) > 110 else "white"
    ImageDraw.Draw(canvas).text(
        (x1 + style.padding, (y1 + y2) / 2), text, font=style.font, fill=ink, anchor="lm"
    )


def _ring(width: int, height: int, radius: int, thickness: int) -> NDArray[np.float32]:
    """Coverage [height,width] in 0..1 of the border, ``thickness`` wide, of a rectangle with round corners.

    Computed on a rectangle just large enough for its corners, whose middle row and column are then
    repeated: a frame costs the same arithmetic whatever its size.
    """
    core = 2 * max(radius, thickness) + 3
    small_width, small_height = min(width, core), min(height, core)
    radius = min(radius, small_width // 2, small_height // 2)
    x = np.abs(np.arange(small_width, dtype=np.float32) + 0.5 - small_width / 2) - small_width / 2 + radius
    y = np.abs(np.arange(small_height, dtype=np.float32) + 0.5 - small_height / 2) - small_height / 2 + radius
    beyond = np.hypot(np.maximum(x, 0)[None, :], np.maximum(y, 0)[:, None])
    distance = beyond + np.minimum(np.maximum(x[None, :], y[:, None]), 0) - radius  # to the edge, < 0 inside
    coverage = np.clip(0.5 - distance, 0, 1) * np.clip(0.5 + distance + thickness, 0, 1)
    return coverage[np.ix_(_stretched(small_height, height), _stretched(small_width, width))]


def _stretched(small: int, large: int) -> NDArray[np.intp]:
    """Indices [large] into ``small`` items, its middle one repeated."""
    middle = small // 2
    i = np.arange(large)
    return np.minimum(i, middle) + np.maximum(i - (large - small + middle), 0)
