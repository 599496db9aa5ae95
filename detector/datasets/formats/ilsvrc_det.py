"""Reader of the ILSVRC detection task (DET) in its official layout."""

from collections.abc import Mapping
from pathlib import Path

from detector.datasets.formats.ilsvrc import IlsvrcLayout, picture_rows
from detector.datasets.formats.voc_record import VocRecordReader
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.record import Dataset, Record
from detector.datasets.record_check import PictureCheck
from detector.errors import DatasetError
from detector.structures.classes import ClassList, ilsvrc_det

_MARKS = ("1", "0", "-1")


def read_ilsvrc_det(
    root: Path,
    split: str,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_pictures: PictureCheck = True,
) -> Dataset:
    """Read the pictures and boxes of one split of ILSVRC DET.

    root:
        The folder that holds ``ILSVRC``, or that folder itself.
    split:
        ``train`` or ``val``, or a part with a list file of its own (``val1``). For ``train`` the official
        lists by class, ``train_1.txt`` and so on, are used where they exist: every picture that is positive
        for at least one class. Else it is ``train.txt``.
    classes:
        The classes to read; the 200 official ones by default. Objects of others are problems.
    on_problem:
        ``REPORT`` leaves out what is broken and names it in ``Dataset.problems``; ``STOP`` raises at once.
    check_pictures:
        Open the header of every picture, to find those that are missing or unreadable, whose true size is
        another than their annotation says, or that EXIF turns. Without it reading takes about half
        the time, and believes the annotations.

    Train pictures are ``partial``: only one class, or a few, were annotated in them; the exception are those
    collected in 2014, annotated with all 200 like val (ILSVRC2014 development kit, section 1.2). The
    ``extra`` pictures of 2013 are negatives: they have no annotation file and no objects.

    Raises DatasetError if the layout is another one, or at the first problem with ``OnProblem.STOP``;
    ParameterError if there is no such split.
    """
    classes = ilsvrc_det() if classes is None else classes
    layout = IlsvrcLayout.find(root, "DET")
    log = ProblemLog(on_problem)
    labels = classes.index()
    found = (
        read_det_picture(layout, split, labels, image_id, log, check_pictures)
        for image_id in dict.fromkeys(det_image_ids(layout, split))
    )
    records = [record for record in found if record is not None]
    return Dataset(records, list(classes.ids), log.problems)


def read_det_picture(
    layout: IlsvrcLayout,
    split: str,
    labels: Mapping[str, int],
    image_id: str,
    log: ProblemLog,
    check_pictures: PictureCheck = True,
) -> Record | None:
    """The record of one picture of a split, or None where it had to be left out (``log`` says why)."""
    is_train = split.startswith("train")
    return VocRecordReader(labels, log, check_pictures).read(
        image_id,
        layout.picture(split, image_id),
        layout.annotation(split, image_id),
        partial=is_train and not _has_all_classes(image_id),
        negative=is_train and _is_negative(image_id),
    )


def det_image_ids(layout: IlsvrcLayout, split: str) -> list[str]:
    """The pictures of a split, as :func:`read_ilsvrc_det` reads them: in the order of its list, one that
    stands there twice twice, since results number them by it.

    Raises DatasetError if a list cannot be read, names no picture, or has another mark than its official one.
    """
    if split != "train" or not layout.list_file("train_1").exists():
        return layout.image_ids(split)
    # One list a class: the last column is 1 for a positive picture, 0 where not every instance has a box,
    # -1 for a negative one. A dict keeps the order of the lists and each picture once.
    numbers = range(1, 1 + len(ilsvrc_det()))
    lists = [layout.list_file(f"train_{number}") for number in numbers]
    found = list(dict.fromkeys(image_id for path in lists for image_id in _positives(path)))
    if not found:
        raise DatasetError(
            f"{lists[0]} and the others up to {lists[-1].name} name no positive picture (mark 1)"
        )
    return found


def _positives(path: Path) -> list[str]:
    """The pictures that the list of a class marks as positive."""
    rows = picture_rows(path)
    for row in rows:
        if len(row) < 2 or row[-1] not in _MARKS:
            raise DatasetError(
                f"{path}: {' '.join(row)[:80]!r} does not end with 1 (positive), 0 or -1 (negative): correct "
                "the line"
            )
    return [row[0] for row in rows if row[-1] == "1"]


def _has_all_classes(image_id: str) -> bool:
    return "ILSVRC2014_train" in image_id


def _is_negative(image_id: str) -> bool:
    return "extra" in image_id
