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
    """One image and its G objects.

    boxes [G,4] float32, continuous, in pixels of the upright image of ``width`` x ``height``; labels [G]
    int64, indices into the data set's classes. difficult [G] bool: PASCAL VOC's mark for objects that its
    rule leaves aside, too small or too hidden to be asked for; by default none is. ``partial``: whether
    objects of other classes may be unlabelled (most of ILSVRC DET train), or an object could not be read;
    such an image says nothing about classes that it does not list. unknown [U,4]: boxes of further objects
    whose class is not known. crowds [K,4]: regions of many objects that nobody marked one by one: neither
    objects nor background.

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
    """One image and its one class, for classification; ``label`` indexes the classes."""

    image_id: str
    path: Path
    label: int


@dataclass(frozen=True)
class Dataset:
    """Annotated images in the order of their list, the ids of their classes, and the problems of reading."""

    records: list[AnnotatedImage]
    class_ids: list[str]
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class LabelledDataset:
    """Labelled images in the order of their list, the ids of their classes, and the problems of reading."""

    images: list[LabelledImage]
    class_ids: list[str]
    problems: list[Problem] = field(default_factory=list)
