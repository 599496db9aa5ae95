"""XML files as tools write them: names of elements in any case, with or without a namespace."""

from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from detector.datasets.formats.files import read_bytes
from detector.errors import DatasetError


def read_xml(path: Path) -> Element:
    """The root of a file, in which the names of all elements are in lower case and without namespace.

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
    """The text of the element at a place (``size/width``), None where there is none.

    Of several that differ it is all of them, parted by ``and``: no number, and to be shown to people.
    """
    found = texts_at(element, place)
    return " and ".join(found) if found else None


def texts_at(element: Element, place: str) -> list[str]:
    """The texts of all elements at a place, stripped, each once."""
    return list(dict.fromkeys((one.text or "").strip() for one in element.findall(place)))


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("it declares a document type, which annotations never do")
