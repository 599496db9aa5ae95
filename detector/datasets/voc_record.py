"""One record from a picture and its VOC-style annotation: where every box is checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, clip
from detector.datasets.corners import from_corners
from detector.datasets.picture_header import PictureHeader, read_header
from detector.datasets.problems import ProblemLog
from detector.datasets.record import Record
from detector.datasets.voc_xml import VocAnnotation, parse_voc_xml
from detector.errors import DatasetError, ImageError


@dataclass(frozen=True)
class VocRecordReader:
    """Reads pictures and their annotations one by one, and tells ``log`` what is wrong with them.

    ``labels`` maps a class name of the files to its label. ``check_pictures`` opens each picture's header;
    without it the size is what the annotation states, pictures are taken to be there, readable and upright.
    ``first_pixel`` is 0 for ILSVRC, 1 for PASCAL VOC.
    """

    labels: Mapping[str, int]
    log: ProblemLog
    check_pictures: bool = True
    first_pixel: int = 0

    def read(
        self, image_id: str, picture: Path, annotation: Path, *, partial: bool = False, negative: bool = False
    ) -> Record | None:
        """The record of one picture, or None where it had to be left out (``log`` says why).

        A ``negative`` picture may lack its annotation: it then has no objects.
        """
        said = self._parse(image_id, annotation, negative)
        if said is None:
            return None
        header = self._header(image_id, picture, said)
        if header is None:
            return None
        known = self._known_objects(image_id, said)
        labels = np.array([self.labels[said.names[index]] for index in known], dtype=np.int64)
        boxes = from_corners(said.corners[known], self.first_pixel)
        boxes = self._on_the_upright_picture(image_id, boxes, said, header)
        boxes, labels = self._inside(image_id, boxes, labels, header)
        width, height = header.upright_size
        return Record(image_id, picture, width, height, boxes, labels, partial)

    def _parse(self, image_id: str, path: Path, negative: bool) -> VocAnnotation | None:
        try:
            return parse_voc_xml(path)
        except FileNotFoundError:
            if negative:
                return VocAnnotation.empty()
            self.log.report(image_id, "missing_annotation", f"annotation {path} is missing")
        except DatasetError as error:
            self.log.report(image_id, "unreadable_annotation", str(error))
        return None

    def _header(self, image_id: str, path: Path, said: VocAnnotation) -> PictureHeader | None:
        if not self.check_pictures and said.width > 0 and said.height > 0:
            return PictureHeader(said.width, said.height)
        try:
            return read_header(path)
        except FileNotFoundError:
            self.log.report(image_id, "missing_image", f"picture {path} is missing")
        except ImageError as error:
            self.log.report(image_id, "unreadable_image", str(error))
        return None

    def _known_objects(self, image_id: str, said: VocAnnotation) -> list[int]:
        """Indices of the objects of a known class whose corners span something.

        Equal corners would be one pixel that somebody clicked on, not an object: the smallest side among
        the 55,502 boxes of ILSVRC DET val is over three pixels.
        """
        known = []
        for index, (name, (xmin, ymin, xmax, ymax)) in enumerate(zip(said.names, said.corners, strict=True)):
            if name not in self.labels:
                self.log.report(
                    image_id, "unknown_class", f"object {index + 1} is of the unknown class {name!r}"
                )
            elif xmax <= xmin or ymax <= ymin:
                corners = f"{xmin:g}, {ymin:g}, {xmax:g}, {ymax:g}"
                self.log.report(
                    image_id, "empty_box", f"object {index + 1} ({name}) has an empty box: {corners}"
                )
            else:
                known.append(index)
        return known

    def _on_the_upright_picture(
        self, image_id: str, boxes: Boxes, said: VocAnnotation, header: PictureHeader
    ) -> Boxes:
        """Boxes [G,4] of the annotated picture, in pixels of the upright picture file.

        Annotations were drawn on the stored pixels, so they turn with the picture, unless the size that
        they state is the upright one. Another size altogether is that of a resized copy: boxes scale with
        it; but where width and height are only exchanged, the statement is wrong and not the boxes.
        """
        stated, stored = (said.width, said.height), (header.width, header.height)
        if stated == stored or min(stated) <= 0:
            return header.upright(boxes)
        if stated == header.upright_size:
            return boxes
        self.log.report(
            image_id,
            "size_mismatch",
            f"its annotation states {said.width}x{said.height} pixels, "
            f"its file has {header.width}x{header.height}",
        )
        if stated == stored[::-1]:
            return header.upright(boxes)
        scale = np.array([header.width / said.width, header.height / said.height] * 2)
        return header.upright((boxes * scale).astype(np.float32))

    def _inside(
        self, image_id: str, boxes: Boxes, labels: NDArray[np.int64], header: PictureHeader
    ) -> tuple[Boxes, NDArray[np.int64]]:
        """Boxes [G,4] cut to the picture, without those of which nothing is left."""
        width, height = header.upright_size
        inside = clip(boxes, width, height)
        kept = area(inside) > 0
        for index in np.flatnonzero((inside != boxes).any(axis=1)):
            where = "in part" if kept[index] else "wholly"
            corners = ", ".join(f"{value:g}" for value in boxes[index])
            self.log.report(
                image_id, "box_outside", f"box {corners} lies {where} outside the {width}x{height} picture"
            )
        return inside[kept], labels[kept]
