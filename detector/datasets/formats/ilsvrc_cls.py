"""Readers of the ILSVRC classification and localisation tasks (CLS-LOC) in their official layout."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

from detector.datasets.annotated_image import AnnotatedImage, Dataset, LabelledDataset, LabelledImage
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.folder_tree import unread_beside
from detector.datasets.formats.ilsvrc import IlsvrcLayout
from detector.datasets.formats.text_files import read_text
from detector.datasets.formats.voc_xml import VocReader, parse_voc_xml
from detector.datasets.layout import Entry, once, read_layout
from detector.datasets.problems import OnProblem, ProblemLog
from detector.errors import DatasetError, ImageError
from detector.io.image_header import read_header
from detector.structures.classes import ClassList, ilsvrc_cls

_WORDS_OF_A_BOX = 5  # its class and four corners


def read_ilsvrc_cls(
    root: Path,
    split: str,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: bool = True,
) -> LabelledDataset:
    """Read the pictures of ``train`` or ``val`` with their one class each: for training and top-k error.

    The class of a train picture is the folder it lies in; of a val picture, what ``LOC_val_solution.csv``
    beside ``ILSVRC`` says, or without that file its annotation. Arguments and errors are those of
    :func:`detector.datasets.formats.ilsvrc.read_ilsvrc_det`; the classes default to the official 1000.
    """
    classes = ilsvrc_cls() if classes is None else classes
    layout = IlsvrcLayout.find(root, "CLS-LOC")
    log = ProblemLog(on_problem)
    labels = classes.index()
    solution = {} if split == "train" else _read_solution(layout.home.parent / "LOC_val_solution.csv")
    images = []
    for image_id in dict.fromkeys(layout.image_ids("train_cls" if split == "train" else split)):
        path = layout.image(split, image_id)
        if check_images and not _image_is_there(image_id, path, log):
            continue
        if split == "train":
            class_id: str | None = Path(image_id).parent.name
        else:
            class_id = _class_of_val(image_id, solution, layout.annotation(split, image_id), log)
        if class_id in labels:
            images.append(LabelledImage(image_id, path, labels[class_id]))
        elif class_id is not None:
            log.report(image_id, "unknown_class", f"picture {path} is of the unknown class {class_id!r}")
    return LabelledDataset(images, list(classes.ids), log.problems)


def read_ilsvrc_loc(
    root: Path,
    split: str,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: bool = True,
) -> Dataset:
    """Read the pictures of ``train`` or ``val`` that have boxes: of one class a picture, so all ``partial``.

    About half of the official train pictures have boxes: ``train_loc.txt`` lists them. Where that list is
    absent ``train_cls.txt`` is read and pictures without annotation are problems. Arguments and errors are
    those of :func:`detector.datasets.formats.ilsvrc.read_ilsvrc_det`.
    """
    layout = IlsvrcLayout.find(root, "CLS-LOC")
    folder = LocFolder(layout, (split,), ilsvrc_cls() if classes is None else classes)
    return read_layout(folder, split, on_problem, check_images)


@dataclass(frozen=True)
class LocFolder:
    """The train and val images of CLS-LOC with their boxes: of one class an image, so all ``partial``."""

    layout: IlsvrcLayout
    splits: tuple[str, ...]
    classes: ClassList

    @classmethod
    def find(cls, root: Path) -> "LocFolder":
        """Find the lists at or in ``root``. Raises DatasetError if CLS-LOC or its lists are not there."""
        layout = IlsvrcLayout.find(root, "CLS-LOC")
        splits = tuple(split for split in ("train", "val") if cls._list(layout, split).exists())
        if not splits:
            raise DatasetError(f"{cls._list(layout, 'val').parent} holds no train_loc.txt and no val.txt")
        return cls(layout, splits, ilsvrc_cls())

    def entries(self, split: str | None) -> list[Entry]:
        """List the images of a split, or of all."""
        labels = self.classes.index()
        return once(
            Entry(image_id, self.layout.image(name, image_id), partial(self._read, name, image_id, labels))
            for name in (self.splits if split is None else (split,))
            for image_id in self.layout.image_ids(self._list(self.layout, name).stem)
        )

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Report nothing: train lists may leave out images that have an annotation."""

    @staticmethod
    def _list(layout: IlsvrcLayout, split: str) -> Path:
        with_boxes = layout.list_file("train_loc")
        if split == "train":
            return with_boxes if with_boxes.exists() else layout.list_file("train_cls")
        return layout.list_file(split)

    def _read(
        self, split: str, image_id: str, labels: Mapping[str, int], log: ProblemLog, check_images: ImageCheck
    ) -> AnnotatedImage | None:
        image, annotation = self.layout.image(split, image_id), self.layout.annotation(split, image_id)
        return VocReader(labels, log, check_images).read(image_id, image, annotation, partial=True)


def _image_is_there(image_id: str, path: Path, log: ProblemLog) -> bool:
    try:
        read_header(path)
    except FileNotFoundError:
        log.report(image_id, "missing_image", f"picture {path} is missing{unread_beside(path)}")
    except ImageError as error:
        log.report(image_id, "unreadable_image", str(error))
    else:
        return True
    return False


def _read_solution(path: Path) -> dict[str, list[str]]:
    """Return the classes that a line, or several, give each val picture (``n01751748 67 65 267 117``):
    officially one, which each of its boxes repeats; none where the line ends before."""
    if not path.exists():
        return {}
    found: dict[str, list[str]] = {}
    try:
        rows = csv.DictReader(StringIO(read_text(path), newline=""))
        if not {"ImageId", "PredictionString"} <= set(rows.fieldnames or ()):
            raise DatasetError(
                f"{path} is not the official file: its columns must be ImageId and PredictionString, with a "
                "comma between them"
            )
        for row in rows:
            class_ids = found.setdefault((row["ImageId"] or "").strip(), [])
            class_ids += (row["PredictionString"] or "").split()[::_WORDS_OF_A_BOX]
    except csv.Error as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    return {image_id: list(dict.fromkeys(class_ids)) for image_id, class_ids in found.items()}


def _class_of_val(
    image_id: str, solution: Mapping[str, Sequence[str]], annotation: Path, log: ProblemLog
) -> str | None:
    """Return the class of a val picture, None if it is not known (``log`` says why)."""
    names = solution.get(image_id, ())
    source = "LOC_val_solution.csv"
    if not names:
        source = f"annotation {annotation}"
        try:
            names = list(dict.fromkeys(parse_voc_xml(annotation).names))
        except FileNotFoundError:
            line = "no line in" if image_id not in solution else "no class in its line of"
            message = f"its class is unknown: {line} LOC_val_solution.csv, no annotation {annotation}"
            log.report(image_id, "missing_annotation", message)
            return None
        except DatasetError as error:
            log.report(image_id, "unreadable_annotation", str(error))
            return None
    if not names:
        log.report(image_id, "missing_annotation", f"its class is unknown: {source} has no object")
        return None
    if len(names) > 1:
        some = ", ".join(names[:3])
        log.report(image_id, "unreadable_annotation", f"its class is unknown: {source} gives several: {some}")
        return None
    return names[0]
