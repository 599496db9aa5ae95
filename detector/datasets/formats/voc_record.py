"""One record from a picture and its VOC-style annotation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from detector.datasets.formats.corners import from_corners
from detector.datasets.formats.voc_xml import VocAnnotation, parse_voc_xml
from detector.datasets.problems import ProblemLog
from detector.datasets.record import Record
from detector.datasets.record_check import PictureCheck, RecordCheck, Said
from detector.errors import DatasetError


@dataclass(frozen=True)
class VocRecordReader:
    """Reads pictures and their annotations one by one, and tells ``log`` what is wrong with them.

    ``labels`` and ``check_pictures`` are those of :class:`RecordCheck`. ``first_pixel`` is 0 for ILSVRC, 1
    for PASCAL VOC. ``parse`` reads an annotation file, in place of which may stand one that remembers.
    """

    labels: Mapping[str, int]
    log: ProblemLog
    check_pictures: PictureCheck = True
    first_pixel: int = 0
    parse: Callable[[Path], VocAnnotation] = parse_voc_xml

    def read(
        self, image_id: str, picture: Path, annotation: Path, *, partial: bool = False, negative: bool = False
    ) -> Record | None:
        """The record of one picture, or None where it had to be left out (``log`` says why).

        A ``negative`` picture may lack its annotation: it then has no objects.
        """
        voc = self._parse(image_id, annotation, negative)
        if voc is None:
            return None
        check = RecordCheck(self.labels, self.log, self.check_pictures, empty_side=1)
        boxes = from_corners(voc.corners, self.first_pixel)
        said = Said(
            voc.width, voc.height, voc.names, boxes, voc.difficult, unreadable=voc.unreadable, odd=voc.odd
        )
        return check.record(image_id, picture, said, partial=partial)

    def _parse(self, image_id: str, path: Path, negative: bool) -> VocAnnotation | None:
        try:
            return self.parse(path)
        except FileNotFoundError:
            if negative:
                return VocAnnotation.empty()
            self.log.report(image_id, "missing_annotation", f"annotation {path} is missing")
        except DatasetError as error:
            self.log.report(image_id, "unreadable_annotation", str(error))
        return None
