"""Several data sets as one, in the labels of one class list, each as often as it is wanted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detector.datasets.record import Dataset, Record
from detector.errors import ParameterError
from detector.structures.class_aliases import class_aliases
from detector.structures.classes import ClassList
from training.rcnn.sampling import SamplingSettings


@dataclass(frozen=True)
class Ingredient:
    """A data set of a mix; ``weight`` is how many times as often as by its size its pictures are drawn.

    ``sampling`` says how many regions of each picture are kept on disk, where that is not the recipe's.
    """

    dataset: Dataset
    weight: float = 1.0
    sampling: SamplingSettings | None = None


@dataclass(frozen=True)
class Part:
    """The pictures of one data set of a mix."""

    records: list[Record]
    weight: float
    sampling: SamplingSettings | None


@dataclass(frozen=True)
class Mix:
    """Data sets in one list of classes."""

    parts: list[Part]

    @property
    def records(self) -> list[Record]:
        """The pictures of all parts, in their order."""
        return [record for part in self.parts for record in part.records]

    @property
    def weights(self) -> NDArray[np.float64]:
        """How many times as often as others each picture is drawn [N]."""
        return np.repeat([part.weight for part in self.parts], [len(part.records) for part in self.parts])

    @property
    def short_side(self) -> int:
        """The shorter side of pictures in pixels: the median of the data set whose pictures are largest.

        Smaller pictures stay as they are, so that nothing is lost of any.
        """
        return max(
            int(np.median([min(record.width, record.height) for record in part.records]))
            for part in self.parts
        )


def mix(train: Dataset | Sequence[Ingredient], classes: ClassList) -> Mix:
    """The pictures with an object of ``classes``, labelled by it.

    A set that knows only some of the classes is partial: its pictures say nothing of the others. Objects of
    classes that are not in the list become objects of unknown class: they are neither named nor background,
    for the list may hold them in other words or parts. Raises
    ParameterError if a weight is not positive, or if no picture has an object to learn from.
    """
    ingredients = [Ingredient(train)] if isinstance(train, Dataset) else train
    parts: list[Part] = []
    for ingredient in ingredients:
        if not ingredient.weight > 0:
            raise ParameterError(f"the weight of a data set must be positive, got {ingredient.weight}")
        mine = [r for r in relabelled(ingredient.dataset, classes).records if len(r.boxes)]
        if mine:
            parts.append(Part(mine, float(ingredient.weight), ingredient.sampling))
    if not parts:
        raise ParameterError("no picture of the data has an object of the classes to learn from")
    return Mix(parts)


def relabelled(dataset: Dataset, classes: ClassList) -> Dataset:
    """The data set in the labels of ``classes``, which are found by their id, name or alias."""
    if list(classes.ids) == dataset.class_ids:
        return dataset
    wanted = [class_aliases(*pair) for pair in zip(classes.ids, classes.names, strict=True)]
    label_of = np.full(len(dataset.class_ids), -1)
    for old, class_id in enumerate(dataset.class_ids):
        if class_id in classes.ids:
            label_of[old] = classes.ids.index(class_id)
            continue
        mine = class_aliases(class_id, class_id)
        label_of[old] = next((new for new, kind in enumerate(wanted) if kind & mine), -1)
    complete = len(set(label_of.tolist()) - {-1}) == len(classes)
    records = []
    for record in dataset.records:
        labels = label_of[record.labels]
        known = labels >= 0
        records.append(
            replace(
                record,
                boxes=record.boxes[known],
                labels=labels[known],
                difficult=record.difficult[known],
                unknown=np.concatenate([record.unknown, record.boxes[~known]]),
                partial=record.partial or not complete,
            )
        )
    return Dataset(records, list(classes.ids), dataset.problems)
