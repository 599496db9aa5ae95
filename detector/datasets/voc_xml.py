"""PASCAL VOC annotation files, which ILSVRC uses too."""

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from detector.errors import DatasetError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocAnnotation:
    """What one file says, as it says it.

    ``width`` and ``height`` are the size of the picture that was annotated, 0 where the file does not state
    it. names [G]; corners [G,4] float64 xmin, ymin, xmax, ymax, both pixels part of the object; difficult
    [G] bool (PASCAL VOC's mark for objects that evaluation leaves aside).
    """

    width: int
    height: int
    names: list[str]
    corners: NDArray[np.float64]
    difficult: NDArray[np.bool_]

    @classmethod
    def empty(cls) -> "VocAnnotation":
        """The annotation of a picture without objects and of unstated size."""
        return cls(0, 0, [], np.zeros((0, 4)), np.zeros(0, np.bool_))


def parse_voc_xml(path: Path) -> VocAnnotation:
    """Read one annotation file.

    Raises FileNotFoundError if there is none, DatasetError if it cannot be read, is not well-formed XML,
    declares a document type (annotations have none, and entities are how XML attacks a parser), or holds an
    object without a name or without four finite corners.
    """
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        parser.feed(path.read_bytes())
        root = parser.close()
    except FileNotFoundError:
        raise
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise DatasetError(f"annotation {path} cannot be read: {error}") from error
    if root.tag != "annotation":
        raise DatasetError(f"annotation {path} holds <{root.tag}> where <annotation> belongs")

    objects = root.findall("object")
    try:
        corners = [[float(thing.findtext(f"bndbox/{side}", "")) for side in _CORNERS] for thing in objects]
        annotation = VocAnnotation(
            width=int(root.findtext("size/width", "0")),
            height=int(root.findtext("size/height", "0")),
            names=[thing.findtext("name", "").strip() for thing in objects],
            corners=np.array(corners, dtype=np.float64).reshape(-1, 4),
            difficult=np.array(
                [thing.findtext("difficult", "0").strip() == "1" for thing in objects], np.bool_
            ),
        )
    except ValueError as error:
        raise DatasetError(
            f"annotation {path} holds something else where a number belongs: {error}"
        ) from error
    if not np.isfinite(annotation.corners).all() or not all(annotation.names):
        raise DatasetError(f"annotation {path} has an object without a name or without finite corners")
    return annotation


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("it declares a document type, which annotations never do")
