"""Annotated images, labelled images, and the data sets that readers make of them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.datasets.problems import Problem
from detector.errors import ParameterError
from detector.structures.boxes import Boxes


@dataclass(frozen=True)
class AnnotatedImage:
    """One picture and its objects.

    boxes [G,4] float32, continuous (``xmax`` of a file is ``xmax + 1`` here), in pixels of the upright
    picture of ``width`` x ``height``; labels [G] int64, indices into the data set's class list. ``partial``
    is true where objects of other classes may stand unlabelled, as in most of ILSVRC DET train, and where an
    object could not be read: such a picture says nothing about classes it does not list. ``unknown`` [U,4]:
    further objects, of which only the place is known and not the class. ``crowds`` [K,4]: regions of many
    objects that nobody marked one by one: neither objects nor background. difficult [G] bool is PASCAL VOC's
    mark for objects that its measure leaves aside, being too small or too hidden to be asked for; left out,
    none is.

    Raises ParameterError if ``difficult`` does not hold one mark an object.
    """

    image_id: str
    path: Path
    width: int
    height: int
    boxes: Boxes
    labels: NDArray[np.int64]
    partial: bool = False
    unknown: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    difficult: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    crowds: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    def __post_init__(self) -> None:
        if not len(self.difficult):
            object.__setattr__(self, "difficult", np.zeros(len(self.boxes), np.bool_))
        if len(self.difficult) != len(self.boxes):
            raise ParameterError(
                f"picture {self.image_id} has {len(self.boxes)} boxes but {len(self.difficult)} marks of "
                "difficulty: give one a box, or none at all"
            )


@dataclass(frozen=True)
class LabelledImage:
    """One picture and its one class, as the classification task has it; ``label`` indexes the class list."""

    image_id: str
    path: Path
    label: int


@dataclass(frozen=True)
class Dataset:
    """Records in the order of the list file, the classes they index, and what was wrong on the way."""

    records: list[AnnotatedImage]
    class_ids: list[str]
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class LabelledDataset:
    """Labelled pictures in the order of the list file, their classes, and what was wrong on the way."""

    images: list[LabelledImage]
    class_ids: list[str]
    problems: list[Problem] = field(default_factory=list)
