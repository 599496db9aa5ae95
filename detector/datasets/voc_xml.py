"""PASCAL VOC annotation files, which ILSVRC uses too."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from detector.datasets.text_file import read_bytes
from detector.datasets.values import flag, number, shown, side
from detector.errors import DatasetError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocAnnotation:
    """What one file says, as it says it.

    ``width`` and ``height`` are the size of the picture that was annotated, 0 where the file does not state
    it. names [G]; corners [G,4] float64 xmin, ymin, xmax, ymax, both pixels part of the object; difficult
    [G] bool (PASCAL VOC's mark for objects that evaluation leaves aside). unreadable: a message for each
    object without a name or without four corners, which are in none of these; odd: one for each value that
    was passed over without loss. ``filename`` and ``folder``: those elements' text, or "".
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
        """The annotation of a picture without objects and of unstated size."""
        return cls(0, 0, [], np.zeros((0, 4)), np.zeros(0, np.bool_))


def parse_voc_xml(path: Path) -> VocAnnotation:
    """Read one annotation file.

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
    if root.tag != "annotation":
        raise DatasetError(f"annotation {path} holds <{root.tag}> where <annotation> belongs")

    (width, wide), (height, high) = (side(root.findtext(f"size/{one}")) for one in ("width", "height"))
    odd = []
    if not (wide and high):
        stated = " x ".join(shown(root.findtext(f"size/{one}")) for one in ("width", "height"))
        odd.append(f"annotation {path} states the size {stated}: that of the picture is taken")
    names, corners, difficult, unreadable = [], [], [], []
    for position, thing in enumerate(root.findall("object"), start=1):
        name = (thing.findtext("name") or "").strip()
        found = [number(thing.findtext(f"bndbox/{one}")) for one in _CORNERS]
        sound = [one for one in found if one is not None]
        which = f"annotation {path}: object {position}" + (f" ({name})" if name else "")
        if not name:
            unreadable.append(f"{which} has no name")
        elif thing.find("bndbox") is None:
            unreadable.append(f"{which} has no bndbox{_instead(thing)}")
        elif len(sound) < len(_CORNERS):
            texts = ", ".join(f"{one} {shown(thing.findtext(f'bndbox/{one}'))}" for one in _CORNERS)
            unreadable.append(f"{which} has a bndbox without four numbers: {texts}")
        else:
            mark = flag(thing.findtext("difficult"))
            if mark is None:
                odd.append(
                    f"{which} is {shown(thing.findtext('difficult'))} difficult: taken as not difficult"
                )
            names.append(name)
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
        (root.findtext("filename") or "").strip(),
        (root.findtext("folder") or "").strip(),
    )


def _instead(thing: ElementTree.Element) -> str:
    """What an object without bndbox has in its place, in words."""
    others = [child.tag for child in thing if child.tag in ("robndbox", "polygon", "mask", "keypoints")]
    return f" but a {others[0]}" if others else ""


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("it declares a document type, which annotations never do")
