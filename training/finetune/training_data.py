"""Which pictures a run learns from and which it is measured on, checked before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.datasets.formats.agnostic import agnostic_file, read_agnostic
from detector.datasets.open import Format, open_data
from detector.datasets.pixels import without_unreadable
from detector.datasets.problems import OnProblem
from detector.datasets.record import Dataset
from detector.datasets.splitting import train_and_held_out
from detector.errors import DatasetError
from detector.evaluation.by_class import Rule
from detector.evaluation.ilsvrc_det import ILSVRC
from detector.evaluation.voc import VOC
from detector.structures.classes import ClassList
from training.rcnn.unknown_objects import with_unknown_objects


@dataclass(frozen=True)
class ChosenData:
    """A data set in two parts. ``how`` tells people where the parts come from."""

    name: str
    root: Path
    format: Format
    classes: ClassList
    train: Dataset
    held_out: Dataset
    how: str

    @property
    def rule(self) -> Rule:
        """The rule that detections are judged by: ILSVRC's for its layout, else PASCAL VOC's."""
        return ILSVRC if self.format is Format.ILSVRC else VOC

    def objects(self, part: Dataset) -> list[int]:
        """The number of objects of each class [C] in one of the parts."""
        labels = np.concatenate([np.zeros(0, np.int64), *(record.labels for record in part.records)])
        return np.bincount(labels, minlength=len(self.classes)).tolist()


def choose_data(
    root: Path,
    *,
    format: Format | None = None,
    train: str | None = None,
    held_out: str | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
) -> ChosenData:
    """Open a data set, read both parts, and check that one can be learned from and the other measured.

    Every picture is decoded: one that cannot be is left out of its part, or refused where ``on_problem`` says
    so, before anything is computed.

    ``train`` and ``held_out`` are those of :func:`detector.datasets.splitting.train_and_held_out`. Beside
    ILSVRC, ``agnostic_boxes.json`` says where further objects are in pictures of which one class was
    annotated. Raises DatasetError for a set that cannot be used, saying why.
    """
    folder = open_data(root, format)
    split = train_and_held_out(folder, train=train, held_out=held_out, on_problem=on_problem)
    split = replace(
        split,
        train=without_unreadable(split.train, on_problem),
        held_out=without_unreadable(split.held_out, on_problem),
    )
    for part, what in ((split.train, "to learn from"), (split.held_out, "to measure on")):
        if not any(len(record.boxes) for record in part.records):
            raise DatasetError(
                f"{root}: of {len(part.records)} pictures {what} none has an object ({split.how}). At least "
                "one picture with boxes is needed to learn from and one to measure on; "
                f"python training/check_data.py {root} lists what is wrong"
            )
    learned = split.train
    if folder.format is Format.ILSVRC and agnostic_file(root).is_file():
        learned = with_unknown_objects(learned, read_agnostic(root, on_problem=on_problem))
    return ChosenData(
        root.resolve().name, root, folder.format, folder.classes, learned, split.held_out, split.how
    )


def check_shown(chosen: ChosenData, known: Sequence[bool]) -> None:
    """Refuse a class that is to be measured, though no training picture shows it and the init lacks it.

    ``known`` [C]: whether the checkpoint to start from knows the class. Raises DatasetError naming them.
    """
    learned, measured = chosen.objects(chosen.train), chosen.objects(chosen.held_out)
    rows = zip(chosen.classes.names, learned, measured, known, strict=True)
    names = [name for name, shown, asked, is_known in rows if asked and not shown and not is_known]
    if names:
        raise DatasetError(
            f"{chosen.root}: no picture to learn from shows {', '.join(names)}, which the part to measure on "
            f"does ({chosen.how}). Move pictures of it over, or take the class out"
        )
