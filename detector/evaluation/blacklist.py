"""The official list of pictures and classes that the detection task passes over."""

from pathlib import Path

from detector.datasets.formats.ilsvrc import read_list
from detector.errors import DatasetError
from detector.structures.classes import ClassList, ilsvrc_det


def read_blacklist(
    path: Path, list_file: Path, *, classes: ClassList | None = None
) -> frozenset[tuple[str, int]]:
    """Pairs of image id and label from ``ILSVRC2014_det_validation_blacklist.txt``.

    Each line names a picture by its number in ``list_file`` (the official ``ImageSets/DET/val.txt``, from 1:
    the whole list, even where only part of it is measured), and a class by its WordNet id, as the development
    kit does, or by its official number from 1. Classes outside ``classes`` are passed over anyway.

    Raises DatasetError if a file cannot be read or a line is of another form.
    """
    labels = (ilsvrc_det() if classes is None else classes).index()
    image_ids = [columns[0] for columns in read_list(list_file)]
    pairs = set()
    for number, columns in enumerate(read_list(path), start=1):
        try:
            if len(columns) < 2:
                raise ValueError("the class is missing")
            class_id = _class_id(columns[1])
            image_id = image_ids[_numbered("pictures", columns[0], len(image_ids)) - 1]
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {number}: expected the number of a picture of {list_file.name} and a class, "
                f"got {' '.join(columns)!r} ({error})"
            ) from error
        if class_id in labels:
            pairs.add((image_id, labels[class_id]))
    return frozenset(pairs)


def _class_id(text: str) -> str:
    official = ilsvrc_det().ids
    if text in official:
        return text
    return official[_numbered("classes", text, len(official)) - 1]


def _numbered(what: str, text: str, count: int) -> int:
    number = int(text) if text.isdecimal() and len(text) < 10 else 0
    if not 1 <= number <= count:
        raise ValueError(f"{what} are numbered 1 to {count}, and {text[:40]!r} is none of these")
    return number
