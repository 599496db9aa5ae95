"""The pictures that an evaluation is over: their split, their numbers in results files, their rules."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.formats.coco import CocoFolder
from detector.datasets.formats.ilsvrc import IlsvrcFolder, det_image_ids
from detector.datasets.load_image import without_unreadable
from detector.datasets.open import DataFolder, Format, open_dataset
from detector.datasets.problems import OnProblem, Problem
from detector.datasets.train_validation import validation_split
from detector.errors import DatasetError, ParameterError
from detector.evaluation.coco import read_coco_results, write_coco_results
from detector.evaluation.ilsvrc import read_blacklist, read_ilsvrc_results, write_ilsvrc_results
from detector.structures.classes import ClassList
from detector.structures.detections import Detections


class ResultsKind(StrEnum):
    """The forms of results files."""

    ILSVRC = ".txt"
    COCO = ".json"


@dataclass(frozen=True)
class MeasuredData:
    """``records`` are the pictures to measure, of the ``image_ids`` of the whole split or list, of which
    those that are ``left_out`` cannot be read."""

    name: str
    folder: DataFolder
    split: str | None
    records: Sequence[AnnotatedImage]
    image_ids: Sequence[str]
    problems: Sequence[Problem]
    left_out: Collection[str] = frozenset()

    @property
    def classes(self) -> ClassList:
        return self.folder.classes

    def without_unreadable(self, on_problem: OnProblem) -> "MeasuredData":
        """Leave out pictures that cannot be decoded, so that all detectors are measured on the same ones.

        Raises DatasetError at the first where ``on_problem`` says STOP, or where none is left.
        """
        read = without_unreadable(Dataset(list(self.records), list(self.classes.ids)), on_problem)
        if not read.records:
            raise DatasetError(f"none of the pictures of {self.name} can be read: {read.problems[0].message}")
        return replace(self, records=read.records, problems=[*self.problems, *read.problems])

    def blacklist(self, path: Path) -> frozenset[tuple[str, int]]:
        """Return the official blacklist of an ILSVRC split. Raises DatasetError for other data."""
        layout = self.folder.layout
        if not isinstance(layout, IlsvrcFolder) or self.split is None:
            raise DatasetError(f"{path}: only a split of ILSVRC DET has a blacklist")
        return read_blacklist(path, layout.layout.list_file(self.split))

    def write_results(self, path: Path, detections: Mapping[str, Detections]) -> None:
        """Write detections with the data's labels: ``.txt`` in ILSVRC's form, ``.json`` in COCO's."""
        if results_kind(path) is ResultsKind.COCO:
            write_coco_results(path, detections, self._category_ids())
        else:
            write_ilsvrc_results(path, detections, self.image_ids)

    def read_results(self, path: Path) -> tuple[dict[str, Detections], str]:
        """Return the detections of a file in either form, in the pictures to measure.

        The text says how many others are in pictures that are left out, "" if none are. Raises DatasetError
        if the file is of another form or has pictures that are not of the data.
        """
        known = {*self.image_ids, *self.left_out}
        if results_kind(path) is ResultsKind.COCO:
            found = read_coco_results(path, self._category_ids(), known)
        else:
            found = read_ilsvrc_results(path, self.image_ids, len(self.classes))
        foreign = [image_id for image_id in found if image_id not in known]
        if foreign:
            raise DatasetError(
                f"{path} has detections in {len(foreign)} pictures that are not of {self.name}, {foreign[0]} "
                "first: give the data and split that it is of"
            )
        measured = {record.image_id for record in self.records}
        lost = [image_id for image_id in found if image_id in self.left_out]
        text = ""
        if lost:
            count = sum(len(found[image_id]) for image_id in lost)
            text = (
                f"{path}: {count} detections are not measured, being in {len(lost)} pictures that are left "
                f"out: {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}"
            )
        return {image_id: detections for image_id, detections in found.items() if image_id in measured}, text

    def _category_ids(self) -> list[int | str]:
        """Return COCO's number of each label: that of the data's own file, else labels counted from 1."""
        layout = self.folder.layout
        if not isinstance(layout, CocoFolder):
            return list(range(1, len(self.classes) + 1))
        chosen = layout.files.get(self.split) if self.split is not None else None
        files = layout.files.values() if chosen is None else [chosen]
        numbers = {name: number for file in files for name, number in file.numbers.items()}
        return [numbers[class_id] for class_id in self.classes.ids]


def open_measured(
    data: Path,
    *,
    format: Format | None,
    split: str | None,
    on_problem: OnProblem,
    every: int,
    images_needed: bool = True,
) -> MeasuredData:
    """Read a split or list file of a data set, and of it every Nth picture.

    Without ``images_needed`` annotations are enough where they state the size of their picture.
    By default the split is the data's validation, else its test, else all of it. Raises DatasetError if it
    cannot be read or holds no picture.
    """
    folder = open_dataset(data, format, images_needed=images_needed)
    if split is None:
        split = validation_split(folder)
    dataset = folder.read(split, on_problem=on_problem)
    if not dataset.records:
        first = f"; the first problem: {dataset.problems[0].message}" if dataset.problems else ""
        raise DatasetError(f"{data} has no picture to measure on in {split or 'it'}{first}")
    image_ids = [record.image_id for record in dataset.records]
    read = set(image_ids)
    if isinstance(folder.layout, IlsvrcFolder) and split in folder.splits:
        image_ids = det_image_ids(folder.layout.layout, str(split))
    name = "DET" if folder.format is Format.ILSVRC else data.resolve().name
    part = Path(split).stem if split is not None else "all"
    return MeasuredData(
        f"{name}/{part}",
        folder,
        split,
        dataset.records[::every],
        image_ids,
        dataset.problems,
        frozenset({*image_ids, *(problem.image_id for problem in dataset.problems)} - read),
    )


def results_kind(path: Path) -> ResultsKind:
    """Return the form of a results file by its name. Raises ParameterError if it says none."""
    try:
        return ResultsKind(path.suffix.lower())
    except ValueError as error:
        raise ParameterError(
            f"{path} is neither .txt (ILSVRC's form of results) nor .json (COCO's): name it so"
        ) from error
