"""Detections as the bytes that go into a reply. It runs in the worker, beside the network."""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from detector.io.visualization import draw
from detector.structures.classes import ClassList
from detector.structures.detections import Detections

if TYPE_CHECKING:
    from typing_extensions import Buffer

JSON = "application/json"
PNG = "image/png"
JPEG = "image/jpeg"


def as_json(detections: Detections, classes: ClassList) -> bytes:
    """Return the objects as a JSON list, best first: what :meth:`Detections.as_dicts` says."""
    return orjson.dumps(detections.as_dicts(classes))


def as_coco(
    detections: Detections,
    classes: ClassList,
    image_name: str | None,
    width: int,
    height: int,
    image_id: int = 1,
) -> bytes:
    """Return the objects as a JSON object of COCO's keys ``images``, ``categories`` and ``annotations``.

    It is a data set of one picture that pycocotools loads (cocodataset.org/#format-data): ``bbox`` is x, y,
    width and height in pixels, rounded as in :func:`as_json`; categories are those of the objects found, a
    category's id is its label + 1, as in files that this project writes.
    """
    annotations: list[dict[str, Any]] = []
    rows = zip(detections.boxes.tolist(), detections.labels.tolist(), detections.scores.tolist(), strict=True)
    for number, (box, label, score) in enumerate(rows, start=1):
        x1, y1, x2, y2 = (round(side, 1) for side in box)
        annotations.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": label + 1,
                "category_name": classes.names[label],
                "bbox": [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)],
                "area": round((x2 - x1) * (y2 - y1), 1),
                "score": round(score, 4),
                "iscrowd": 0,
            }
        )
    categories = [
        {"id": label + 1, "name": classes.names[label]} for label in np.unique(detections.labels).tolist()
    ]
    images = [{"id": image_id, "file_name": image_name or "", "width": width, "height": height}]
    return orjson.dumps({"images": images, "categories": categories, "annotations": annotations})


def as_image(
    image: NDArray[np.uint8],
    detections: Detections,
    classes: ClassList,
    media_type: str,
    check: Callable[[], None] = lambda: None,
) -> bytes:
    """Return the image [H,W,3] with the objects drawn on it, as ``image/jpeg`` or ``image/png``.

    ``check`` is called before each object is drawn and with each piece of the file; what it raises ends the
    work.
    """
    drawn = Image.fromarray(draw(image, detections, classes, check))
    buffer = _CheckedBuffer(check)
    if media_type == JPEG:
        drawn.save(buffer, "JPEG", quality=90)
    else:
        drawn.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


class _CheckedBuffer(BytesIO):
    """Bytes in memory that call ``check`` before each piece written: encoders write as they go."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def write(self, data: "Buffer", /) -> int:
        """Add a piece. Raises what ``check`` raises."""
        self._check()
        return super().write(data)
