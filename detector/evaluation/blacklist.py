"""The official list of pictures and classes that the detection task passes over."""

from pathlib import Path

from detector.classes import ClassList, ilsvrc_det
from detector.datasets.ilsvrc import read_list
from detector.errors import DatasetError


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
            picture, class_id = int(columns[0]), _class_id(columns[1])
            if picture < 1:
                raise IndexError("pictures are numbered from 1")
            image_id = image_ids[picture - 1]
        except (ValueError, IndexError) as error:
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
    number = int(text)
    if not 1 <= number <= len(official):
        raise ValueError(f"classes are numbered 1 to {len(official)}")
    return official[number - 1]
