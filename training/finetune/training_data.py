"""The data of a fine-tuning: what to train and to measure on, and further data sets that join."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.formats.agnostic import agnostic_file
from detector.datasets.formats.values import number
from detector.datasets.load_image import without_unreadable
from detector.datasets.open import DataFolder, Format, open_dataset
from detector.datasets.problems import OnProblem, Problem
from detector.datasets.split_names import Role, role_of
from detector.datasets.train_validation import train_and_validation
from detector.errors import DatasetError
from detector.evaluation.ilsvrc import ILSVRC
from detector.evaluation.matching import Rule
from detector.evaluation.voc import VOC
from detector.structures.boxes import iou
from detector.structures.classes import ClassList
from training.rcnn.mixing import DatasetSpec
from training.rcnn.sampling import SamplingSettings
from training.settings_text import settings_error, split_settings

SAME_IOU = 0.5
"""A box without a class that overlaps an annotated one by so much is the same object."""


def with_unknown_objects(learned: Dataset, agnostic: Dataset) -> Dataset:
    """Return the records of ``learned``, an ILSVRC set, those that ``agnostic`` also holds completed by its
    boxes.

    Such a picture is no longer partial: every object's place is known, though not every object's class;
    unless ``agnostic`` has lost a box of it. It is the same picture if it is the same file, or the only one
    that has the name, which in ILSVRC tells copies of other tasks. Where several learned pictures have the
    name of one, none gets its boxes, which is a problem; so are those of ``agnostic`` itself.
    """
    by_path = {record.path: record for record in agnostic.records}
    by_name = {record.path.stem: record for record in agnostic.records}
    times = Counter(path.stem for path in {record.path for record in learned.records})
    records, problems = [], [*learned.problems, *agnostic.problems]
    for record in learned.records:
        name = record.path.stem
        other = by_path.get(record.path, by_name.get(name))
        if other is not None and record.partial and other.path != record.path and times[name] > 1:
            message = (
                f"boxes without a class are of {other.path}: whether {record.path} is a copy is not known"
            )
            problems.append(Problem(record.image_id, "duplicate_id", message))
            other = None
        records.append(_completed(record, other))
    return Dataset(records, learned.class_ids, problems)


def _with_agnostic_boxes(folder: DataFolder, learned: Dataset, on_problem: OnProblem) -> Dataset:
    """Complete what is learned from ILSVRC by ``agnostic_boxes.json``, if that lies beside it."""
    if folder.format is not Format.ILSVRC or not agnostic_file(folder.root).is_file():
        return learned
    agnostic = open_dataset(folder.root, Format.AGNOSTIC).read(on_problem=on_problem)
    return with_unknown_objects(learned, agnostic)


def _completed(record: AnnotatedImage, other: AnnotatedImage | None) -> AnnotatedImage:
    if other is None or not record.partial:
        return record
    scale = np.array([record.width / other.width, record.height / other.height] * 2, np.float32)
    boxes = other.boxes * scale
    further = (iou(boxes, record.boxes) < SAME_IOU).all(axis=1)
    return replace(record, unknown=boxes[further], partial=other.partial)


_COUNTS = ("positives", "background")
_NUMBERS = ("weight", *_COUNTS)
_WORDS = ("split", "format")


@dataclass(frozen=True)
class FurtherData:
    """A data set that joins, in words: ``name`` is that of its folder."""

    name: str
    spec: DatasetSpec


def further_data(text: str, sampling: SamplingSettings, on_problem: OnProblem) -> FurtherData:
    """Return what ``FOLDER`` or ``FOLDER:key=value,key=value`` means.

    ``split`` is a split or a list file [the training split, else all]; ``format`` the layout [found by
    looking]; ``weight`` how many times as often as by its size a picture is drawn [1]; ``positives`` and
    ``background`` how many regions of a picture are kept [those of ``sampling``].

    Raises ParameterError for text that makes no sense, DatasetError for data that cannot be read.
    """
    path, settings = _parsed(text)
    try:
        layout = _layout(settings["format"]) if "format" in settings else None
        weight = _weight(settings["weight"]) if "weight" in settings else 1.0
        counts = {name: _count(name, settings[name]) for name in _COUNTS if name in settings}
    except ValueError as error:
        raise settings_error("--also", text, error) from error
    kept = replace(sampling, **counts)
    folder = open_dataset(path, layout)
    split = settings.get("split")
    if split is None:
        split = next((name for name in folder.splits if role_of(name) is Role.TRAIN), None)
    dataset = without_unreadable(folder.read(split, on_problem=on_problem), on_problem)
    dataset = _with_agnostic_boxes(folder, dataset, on_problem)
    return FurtherData(path.resolve().name, DatasetSpec(dataset, weight, kept))


def further_folder(text: str) -> Path:
    """Return the folder that such a text names. Raises ParameterError as :func:`further_data` does."""
    return _parsed(text)[0]


def _layout(text: str) -> Format:
    if text not in tuple(Format):
        raise ValueError(f"format must be one of {', '.join(Format)}, got {text[:40]!r}")
    return Format(text)


def _weight(text: str) -> float:
    weight = number(text)
    if weight is None or weight <= 0:
        raise ValueError(f"weight must be a number over 0, got {text[:40]!r}")
    return weight


def _count(name: str, text: str) -> int:
    if not (text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise ValueError(f"{name} must be a whole number from 1, got {text[:40]!r}")
    return int(text)


def _parsed(text: str) -> tuple[Path, dict[str, str]]:
    """Split the text into the folder, whose name may have a colon itself, and its settings by key."""
    if text and os.path.isdir(text):  # noqa: PTH112 (False for a name that no file can have)
        return Path(text), {}
    path, settings = split_settings("--also", text, (*_WORDS, *_NUMBERS))
    if not path:
        raise settings_error("--also", text, "names no folder: FOLDER, or FOLDER:key=value,key=value")
    return Path(path), settings


@dataclass(frozen=True)
class ChosenData:
    """A data set in two parts. ``how`` tells people where the parts come from."""

    name: str
    root: Path
    format: Format
    classes: ClassList
    train: Dataset
    validation: Dataset
    how: str

    @property
    def rule(self) -> Rule:
        """The rule that detections are judged by: ILSVRC's for its layout, else PASCAL VOC's."""
        return ILSVRC if self.format is Format.ILSVRC else VOC

    def objects(self, part: Dataset) -> list[int]:
        """Return the number of objects of each class [C] in one of the parts."""
        labels = np.concatenate([np.zeros(0, np.int64), *(record.labels for record in part.records)])
        return np.bincount(labels, minlength=len(self.classes)).tolist()


def choose_data(
    root: Path,
    *,
    format: Format | None = None,
    train: str | None = None,
    validation: str | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
) -> ChosenData:
    """Open a data set, read both parts, and check that one can be learned from and the other measured.

    Every picture is decoded: one that cannot be is left out of its part, or refused where ``on_problem`` says
    so, before anything is computed.

    ``train`` and ``validation`` are those of
    :func:`detector.datasets.train_validation.train_and_validation`. Beside
    ILSVRC, ``agnostic_boxes.json`` says where further objects are in pictures of which one class was
    annotated. Raises DatasetError for a set that cannot be used, saying why.
    """
    folder = open_dataset(root, format)
    split = train_and_validation(folder, train=train, validation=validation, on_problem=on_problem)
    split = replace(
        split,
        train=without_unreadable(split.train, on_problem),
        validation=without_unreadable(split.validation, on_problem),
    )
    for part, what in ((split.train, "to learn from"), (split.validation, "to measure on")):
        if not any(len(record.boxes) for record in part.records):
            raise DatasetError(
                f"{root}: of {len(part.records)} pictures {what} none has an object ({split.how}). At least "
                "one picture with boxes is needed to learn from and one to measure on; "
                f"detector check {root} lists what is wrong"
            )
    learned = _with_agnostic_boxes(folder, split.train, on_problem)
    return ChosenData(
        root.resolve().name, root, folder.format, folder.classes, learned, split.validation, split.how
    )


def check_shown(chosen: ChosenData, known: Sequence[bool]) -> None:
    """Refuse a class that is to be measured, though no training picture shows it and the init lacks it.

    ``known`` [C]: whether the checkpoint to start from knows the class. Raises DatasetError naming them.
    """
    learned, measured = chosen.objects(chosen.train), chosen.objects(chosen.validation)
    rows = zip(chosen.classes.names, learned, measured, known, strict=True)
    names = [name for name, shown, asked, is_known in rows if asked and not shown and not is_known]
    if names:
        raise DatasetError(
            f"{chosen.root}: no picture to learn from shows {', '.join(names)}, which the part to measure on "
            f"does ({chosen.how}). Move pictures of it over, or take the class out"
        )
