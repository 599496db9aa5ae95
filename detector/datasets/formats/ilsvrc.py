"""Reader of the ILSVRC detection task (DET), and where the official download keeps its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.formats.text_files import read_lines
from detector.datasets.formats.voc_xml import VocReader
from detector.datasets.layout import Entry, once, read_layout
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.split_names import Role, in_order, role_of
from detector.errors import DatasetError, ParameterError
from detector.structures.classes import ClassList, ilsvrc_det

Task = Literal["DET", "CLS-LOC"]


@dataclass(frozen=True)
class IlsvrcLayout:
    """The files of one task. ``home`` is the ``ILSVRC`` folder itself."""

    home: Path
    task: Task

    @classmethod
    def find(cls, root: Path, task: Task) -> "IlsvrcLayout":
        """Return the layout below ``root``, the folder that holds ``ILSVRC`` or that folder itself.

        Raises DatasetError if the task's lists, pictures or annotations are not there.
        """
        home = root / "ILSVRC" if (root / "ILSVRC").is_dir() else root
        for part in ("ImageSets", "Data", "Annotations"):
            if not (home / part / task).is_dir():
                raise DatasetError(
                    f"{home / part / task} is missing: give the folder that holds ILSVRC/ as the official "
                    f"download lays it out (ILSVRC/Data, ILSVRC/Annotations, ILSVRC/ImageSets)"
                )
        return cls(home, task)

    def image(self, split: str, image_id: str) -> Path:
        """Return the picture file of one line of a list."""
        return self.home / f"Data/{self.task}/{_folder(split)}/{image_id}.JPEG"

    def annotation(self, split: str, image_id: str) -> Path:
        """Return the annotation file of one line of a list."""
        return self.home / f"Annotations/{self.task}/{_folder(split)}/{image_id}.xml"

    def list_file(self, name: str) -> Path:
        """Return the list ``ImageSets/TASK/<name>.txt``."""
        return self.home / f"ImageSets/{self.task}/{name}.txt"

    def image_ids(self, name: str) -> list[str]:
        """Return the pictures of a list, in its order. Raises DatasetError if there is no such list, it is
        empty, or a line has more than a picture and its number."""
        path = self.list_file(name)
        found = [columns[0] for columns in image_rows(path)]
        if not found:
            raise DatasetError(f"list file {path} is empty: it must name one picture a line")
        return found


def read_list(path: Path) -> list[list[str]]:
    """Return the columns of every line of a list file. Raises DatasetError if it cannot be read."""
    return [line.split() for line in read_lines(path)]


def image_rows(path: Path) -> list[list[str]]:
    """Return the lines of an official list: a picture, and its number or mark.

    Raises DatasetError if it cannot be read, or a line has more: where an end of line was lost, a picture is.
    """
    rows = read_list(path)
    for row in rows:
        if len(row) > 2:
            line = " ".join(row)[:80]
            raise DatasetError(f"{path}: {line!r} is more than a picture and its number: give each its line")
    return rows


def _folder(split: str) -> str:
    """Return ``val`` for ``val`` and its parts: R-CNN halves it into val1 and val2 (arXiv 1311.2524v5,
    4.1)."""
    folder = split.rstrip("0123456789")
    if folder not in ("train", "val"):
        raise ParameterError(f"split must be train or val (or a numbered part: val1), got {split!r}")
    return folder


@dataclass(frozen=True)
class IlsvrcFolder:
    """The lists of ImageSets/DET whose pictures have annotations: train, val, and parts of them (val1)."""

    layout: IlsvrcLayout
    splits: tuple[str, ...]
    classes: ClassList

    @classmethod
    def find(cls, root: Path) -> "IlsvrcFolder | None":
        """Return the data set at or in ``root``, None if it is not laid out there.

        Raises DatasetError if its lists are there, but not the pictures or annotations.
        """
        try:
            layout = IlsvrcLayout.find(root, "DET")
        except DatasetError:
            if any((home / "ImageSets/DET").is_dir() for home in (root, root / "ILSVRC")):
                raise
            return None
        names = {path.stem for path in (layout.home / "ImageSets/DET").glob("*.txt")}
        if "train_1" in names:  # the official lists by class, train_1 to train_200, are one list
            names = {name for name in names if not name.startswith("train_")} | {"train"}
        splits = in_order(name for name in names if role_of(name) in (Role.TRAIN, Role.VAL))
        return cls(layout, splits, ilsvrc_det()) if splits else None

    def entries(self, split: str | None) -> list[Entry]:
        """List the images as :meth:`detector.datasets.layout.Layout.entries` does; train pictures are
        ``partial``."""
        labels = self.classes.index()
        return once(
            Entry(image_id, self.layout.image(name, image_id), partial(self._read, name, image_id, labels))
            for name in (self.splits if split is None else (split,))
            for image_id in det_image_ids(self.layout, name)
        )

    def _read(
        self, split: str, image_id: str, labels: Mapping[str, int], log: ProblemLog, check_images: ImageCheck
    ) -> AnnotatedImage | None:
        is_train = split.startswith("train")
        return VocReader(labels, log, check_images).read(
            image_id,
            self.layout.image(split, image_id),
            self.layout.annotation(split, image_id),
            partial=is_train and "ILSVRC2014_train" not in image_id,  # those have all 200 classes annotated
            negative=is_train and "extra" in image_id,
        )

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Report nothing: the lists name pictures, and what no list names is not of the data set."""


_MARKS = ("1", "0", "-1")


def read_ilsvrc_det(
    root: Path,
    split: str,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: ImageCheck = True,
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
    check_images:
        Open the header of every picture, to find those that are missing or unreadable, whose true size is
        another than their annotation says, or that EXIF turns. Without it reading takes about half
        the time, and believes the annotations.

    Train pictures are ``partial``: only one class, or a few, were annotated in them; the exception are those
    collected in 2014, annotated with all 200 like val (ILSVRC2014 development kit, section 1.2). The
    ``extra`` pictures of 2013 are negatives: they have no annotation file and no objects.

    Raises DatasetError if the layout is another one, or at the first problem with ``OnProblem.STOP``;
    ParameterError if there is no such split.
    """
    layout = IlsvrcLayout.find(root, "DET")
    folder = IlsvrcFolder(layout, (split,), ilsvrc_det() if classes is None else classes)
    return read_layout(folder, split, on_problem, check_images)


def det_image_ids(layout: IlsvrcLayout, split: str) -> list[str]:
    """Return the pictures of a split, as :func:`read_ilsvrc_det` reads them: in the order of its list, one
    that stands there twice twice, since results number them by it.

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
    """Return the pictures that the list of a class marks as positive."""
    rows = image_rows(path)
    for row in rows:
        if len(row) < 2 or row[-1] not in _MARKS:
            raise DatasetError(
                f"{path}: {' '.join(row)[:80]!r} does not end with 1 (positive), 0 or -1 (negative): correct "
                "the line"
            )
    return [row[0] for row in rows if row[-1] == "1"]
