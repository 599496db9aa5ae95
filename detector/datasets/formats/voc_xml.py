"""PASCAL VOC's annotation files, which ILSVRC uses too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.annotation_check import Annotation, AnnotationCheck, ImageCheck
from detector.datasets.formats.text_files import read_bytes
from detector.datasets.formats.values import flag, number, shown, side
from detector.datasets.problems import ProblemLog
from detector.errors import DatasetError
from detector.structures.boxes import from_corners

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


# What a box is called by this layout and by others: outside of an object it is one that would be lost.
_BOXES = frozenset(
    {
        *("bndbox", "bbox", "box", "boundingbox", "bounding_box", "rect", "rectangle"),
        *("robndbox", "polygon", *_CORNERS),
    }
)


_ABOUT_THE_IMAGE = frozenset({"source", "owner", "size", "imagesize", "objects"})  # what has elements in it


@dataclass(frozen=True)
class VocAnnotation:
    """What one file says, as it says it.

    ``width`` and ``height`` are the size of the picture that was annotated, 0 where the file does not state
    it. names [G]; corners [G,4] float64 xmin, ymin, xmax, ymax, both pixels part of the object; difficult
    [G] bool (PASCAL VOC's mark for objects that evaluation leaves aside). unreadable: a message for each
    object without a name or without four corners, which are in none of these, and for boxes that are in no
    object; odd: one for each value that was passed over without loss. ``filename`` and ``folder``: those
    elements' text, or "".
    """

    width: int
    height: int
    names: list[str]
    corners: NDArray[np.float64]
    difficult: NDArray[np.bool_]
    unreadable: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    filename: str = ""
    folder: str = ""

    @classmethod
    def empty(cls) -> "VocAnnotation":
        """Return the annotation of a picture without objects and of unstated size."""
        return cls(0, 0, [], np.zeros((0, 4)), np.zeros(0, np.bool_))


def parse_voc_xml(path: Path) -> VocAnnotation:
    """Read one annotation file. Names of elements are taken in any case, and in any namespace.

    Raises FileNotFoundError if there is none, DatasetError if it cannot be read (as
    :func:`detector.datasets.formats.voc_xml.read_xml` says) or is no annotation of one picture.
    """
    root = read_xml(path)
    if root.tag != "annotation":
        raise DatasetError(f"annotation {path} holds <{root.tag}> where <annotation> belongs")
    if any(len(inner) for inner in root.iter("annotation") if inner is not root):  # <source> has one of text
        raise DatasetError(
            f"annotation {path} holds a second <annotation>, so that whose objects are whose is not known: "
            "write a file for each picture"
        )

    odd = []
    (width, wide), (height, high) = (side(text_at(root, f"size/{name}")) for name in ("width", "height"))
    if not (wide and high):
        stated = " x ".join(shown(text_at(root, f"size/{name}")) for name in ("width", "height"))
        odd.append(f"annotation {path} states the size {stated}: that of the picture is taken")
    filenames = texts_at(root, "filename")
    if len(filenames) > 1:
        odd.append(f"annotation {path} has the filename {text_at(root, 'filename')}: neither is taken")
    names, corners, difficult, unreadable = [], [], [], _outside(path, root)
    for position, thing in enumerate(_objects(root), start=1):
        known = [name for name in texts_at(thing, "name") if name]
        found = [number(text_at(thing, f"bndbox/{corner}")) for corner in _CORNERS]
        sound = [value for value in found if value is not None]
        which = f"annotation {path}: object {position}" + (f" ({' and '.join(known)})" if known else "")
        if not known:
            unreadable.append(f"{which} has no name")
        elif len(known) > 1:
            unreadable.append(f"{which} has {len(known)} names")
        elif thing.find("bndbox") is None:
            unreadable.append(f"{which} has no bndbox{_instead(thing)}")
        elif len(sound) < len(_CORNERS):
            texts = ", ".join(f"{corner} {shown(text_at(thing, f'bndbox/{corner}'))}" for corner in _CORNERS)
            unreadable.append(f"{which} has a bndbox without four numbers: {texts}")
        else:
            mark = flag(text_at(thing, "difficult"))
            if mark is None:
                odd.append(
                    f"{which} is {shown(text_at(thing, 'difficult'))} difficult: taken as not difficult"
                )
            names += known
            corners.append(sound)
            difficult.append(bool(mark))
    return VocAnnotation(
        width,
        height,
        names,
        np.array(corners, np.float64).reshape(-1, 4),
        np.array(difficult, np.bool_),
        unreadable,
        odd,
        filenames[0] if len(filenames) == 1 else "",
        text_at(root, "folder") or "",
    )


def _objects(root: Element) -> list[Element]:
    """Return the objects of an annotation: its own, and those in an ``<objects>``."""
    return [*root.findall("object"), *root.findall("objects/object")]


def _outside(path: Path, root: Element) -> list[str]:
    """Return a message for each object and each box that lies where none belongs."""
    objects = _objects(root)
    inside = {id(part) for thing in objects for part in thing.iter()}
    found = [
        f"annotation {path}: object {position} holds another <object>, which is no object of the picture"
        for position, thing in enumerate(objects, start=1)
        if thing.find(".//object") is not None
    ]
    for holder in root.iter():
        for part in holder:
            if id(part) in inside:
                continue
            if part.tag == "object" or part.tag == "obj":
                found.append(f"annotation {path}: an <{part.tag}> lies within <{holder.tag}>")
            elif part.tag in _BOXES and holder.tag not in ("object", "obj", *_BOXES):
                found.append(f"annotation {path}: a <{part.tag}> lies within <{holder.tag}>, not <object>")
    if not objects and not found:
        others = [part.tag for part in (*root, *root.findall("objects/*")) if len(part)]
        others = [tag for tag in others if tag not in _ABOUT_THE_IMAGE]
        found += [f"annotation {path} has no <object> but a <{tag}>, which is not read" for tag in others]
    return found


def _instead(thing: Element) -> str:
    """Return what an object without bndbox has in its place, in words."""
    others = [child.tag for child in thing if child.tag in _BOXES or child.tag in ("mask", "keypoints")]
    return f" but a {others[0]}" if others else ""


@dataclass(frozen=True)
class VocReader:
    """Reads pictures and their annotations one by one, and tells ``log`` what is wrong with them.

    ``labels`` and ``check_images`` are those of :class:`AnnotationCheck`. ``first_pixel`` is 0 for ILSVRC, 1
    for PASCAL VOC. ``parse`` reads an annotation file, in place of which may stand one that remembers.
    """

    labels: Mapping[str, int]
    log: ProblemLog
    check_images: ImageCheck = True
    first_pixel: int = 0
    parse: Callable[[Path], VocAnnotation] = parse_voc_xml

    def read(
        self, image_id: str, image: Path, annotation: Path, *, partial: bool = False, negative: bool = False
    ) -> AnnotatedImage | None:
        """Return the record of one picture, or None where it had to be left out (``log`` says why).

        A ``negative`` picture may lack its annotation: it then has no objects.
        """
        voc = self._parse(image_id, annotation, negative)
        if voc is None:
            return None
        check = AnnotationCheck(self.labels, self.log, self.check_images, empty_side=1)
        boxes = from_corners(voc.corners, self.first_pixel)
        content = Annotation(
            voc.width, voc.height, voc.names, boxes, voc.difficult, unreadable=voc.unreadable, odd=voc.odd
        )
        return check.record(image_id, image, content, partial=partial)

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


def read_xml(path: Path) -> Element:
    """Return the root of a file, in which the names of all elements are in lower case and without namespace.

    Raises FileNotFoundError if there is none, DatasetError if it cannot be read, is not well-formed XML, or
    declares a document type (annotations have none, and entities are how XML attacks a parser).
    """
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        parser.feed(read_bytes(path))
        root = parser.close()
    except FileNotFoundError:
        raise
    except DatasetError as error:
        raise DatasetError(f"annotation {error}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DatasetError(f"annotation {path} cannot be read: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2].lower()
    return root


def text_at(element: Element, place: str) -> str | None:
    """Return the text of the element at a place (``size/width``), None where there is none.

    Of several that differ it is all of them, parted by ``and``: no number, and to be shown to people.
    """
    found = texts_at(element, place)
    return " and ".join(found) if found else None


def texts_at(element: Element, place: str) -> list[str]:
    """Return the texts of all elements at a place, stripped, each once."""
    return list(dict.fromkeys((part.text or "").strip() for part in element.findall(place)))


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("it declares a document type, which annotations never do")
