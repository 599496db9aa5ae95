"""Check what an annotation says against its image file: sizes, orientation, classes and boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.folder_tree import unread_beside
from detector.datasets.problems import ProblemLog
from detector.errors import ImageError
from detector.io.image_header import ImageHeader, read_header
from detector.structures.boxes import Boxes, area, clip

ImageCheck = bool | Literal["where present"]
"""Whether the header of each picture is opened; ``where present``: of those that are there, while of absent
ones the size that the annotation states is taken."""


@dataclass(frozen=True)
class Annotation:
    """What the annotation of one image says, its boxes already continuous.

    ``width`` and ``height`` are the size of the picture that was annotated, 0 where that is not stated;
    names [G] the class of each object; boxes [G,4] float32, continuous, over that picture; difficult [G]
    bool, empty where nothing is said of it; crowds [K,4] float32, regions of many objects. unreadable: a
    message for each further object that could not be read; odd: one for each value that was passed over
    without loss.
    """

    width: int
    height: int
    names: Sequence[str]
    boxes: Boxes
    difficult: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    unreadable: Sequence[str] = ()
    odd: Sequence[str] = ()
    crowds: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))


@dataclass(frozen=True)
class AnnotationCheck:
    """Checks annotations against their image files, and reports to ``log`` what is wrong with them.

    ``labels`` maps a class name of the files to its label. ``check_images`` opens each picture's header;
    without it the size is what the annotation states, pictures are taken to be there, readable and upright.

    An object that cannot be read is left out and named. Where its picture has other objects, these stay, and
    the picture is ``partial``: what else stands in it is not known to be background. A picture of which no
    object can be read is left out, or all of it would be learnt as background.

    A side of ``empty_side`` pixels or less is no box: 1 where files store whole-pixel corners, since equal
    corners would be one pixel that somebody clicked on, not an object (the smallest side among the 55,502
    boxes of ILSVRC DET val is over three pixels).
    """

    labels: Mapping[str, int]
    log: ProblemLog
    check_images: ImageCheck = True
    empty_side: float = 0

    def record(
        self, image_id: str, image: Path, annotation: Annotation, *, partial: bool = False
    ) -> AnnotatedImage | None:
        """Return the annotated image, or None where it is left out (``log`` says why)."""
        for message in annotation.odd:
            self.log.report(image_id, "odd_value", message)
        for message in annotation.unreadable:
            self.log.report(image_id, "unreadable_object", message)
        if annotation.unreadable and not annotation.names:
            message = (
                f"none of its {len(annotation.unreadable)} objects can be read, so the picture is left out"
            )
            self.log.report(image_id, "unreadable_annotation", message)
            return None
        header = self._header(image_id, image, annotation)
        if header is None:
            return None
        known = self._known_objects(image_id, annotation)
        labels = np.array([self.labels[annotation.names[index]] for index in known], dtype=np.int64)
        difficult = (
            annotation.difficult[known] if len(annotation.difficult) else np.zeros(len(known), np.bool_)
        )
        every = np.concatenate([annotation.boxes[known], annotation.crowds])
        every = self._on_the_upright_image(image_id, every, annotation, header)
        boxes, kept = self._inside(image_id, every[: len(known)], header)
        width, height = header.upright_size
        crowds = clip(every[len(known) :], width, height)
        named = sum(name in self.labels for name in annotation.names)
        lost = len(boxes) < named or bool(annotation.unreadable)  # where they are is no background
        return AnnotatedImage(
            image_id,
            image,
            width,
            height,
            boxes,
            labels[kept],
            partial or lost,
            difficult=difficult[kept],
            crowds=crowds[area(crowds) > 0],
        )

    def _header(self, image_id: str, path: Path, annotation: Annotation) -> ImageHeader | None:
        stated = (
            ImageHeader(annotation.width, annotation.height)
            if min(annotation.width, annotation.height) > 0
            else None
        )
        if stated is not None and not self.check_images:
            return stated
        try:
            return read_header(path)
        except FileNotFoundError:
            if stated is not None and self.check_images == "where present":
                return stated
            unknown = "" if stated is not None else ", and its annotation states no size"
            self.log.report(
                image_id, "missing_image", f"picture {path} is missing{unknown}{unread_beside(path)}"
            )
        except ImageError as error:
            self.log.report(image_id, "unreadable_image", str(error))
        return None

    def _known_objects(self, image_id: str, annotation: Annotation) -> list[int]:
        """Return the indices of the objects of a known class whose boxes span something."""
        known = []
        for index, (name, box) in enumerate(zip(annotation.names, annotation.boxes, strict=True)):
            if name not in self.labels:
                self.log.report(
                    image_id, "unknown_class", f"object {index + 1} is of the unknown class {name!r}"
                )
            elif (box[2:] - box[:2]).min() <= self.empty_side:
                self.log.report(
                    image_id, "empty_box", f"object {index + 1} ({name}) has an empty box: {_text(box)}"
                )
            else:
                known.append(index)
        return known

    def _on_the_upright_image(
        self, image_id: str, boxes: Boxes, annotation: Annotation, header: ImageHeader
    ) -> Boxes:
        """Return boxes [G,4] of the annotated picture, in pixels of the upright picture file.

        Annotations were drawn on the stored pixels, so they turn with the picture, unless the size that
        they state is the upright one. Another size altogether is that of a resized copy: boxes scale with
        it; but where width and height are only exchanged, the statement is wrong and not the boxes.
        """
        stated, stored = (annotation.width, annotation.height), (header.width, header.height)
        if stated == stored or min(stated) <= 0:
            return header.upright(boxes)
        if stated == header.upright_size:
            return boxes
        self.log.report(
            image_id,
            "size_mismatch",
            f"its annotation states {annotation.width}x{annotation.height} pixels, "
            f"its file has {header.width}x{header.height}",
        )
        if stated == stored[::-1]:
            return header.upright(boxes)
        scale = np.array([header.width / annotation.width, header.height / annotation.height] * 2)
        return header.upright((boxes * scale).astype(np.float32))

    def _inside(self, image_id: str, boxes: Boxes, header: ImageHeader) -> tuple[Boxes, NDArray[np.bool_]]:
        """Return boxes cut to the picture, without those of which nothing is left; and which [G] were
        kept."""
        width, height = header.upright_size
        inside = clip(boxes, width, height)
        kept = area(inside) > 0
        for index in np.flatnonzero((inside != boxes).any(axis=1)):
            where = "in part" if kept[index] else "wholly"
            self.log.report(
                image_id,
                "box_outside",
                f"box {_text(boxes[index])} lies {where} outside the {width}x{height} picture",
            )
        return inside[kept], kept


def _text(box: Boxes) -> str:
    return ", ".join(f"{value:g}" for value in box)
