"""Several data sets as one, in the labels of one class list, each with a weight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.errors import ParameterError
from detector.structures.classes import ClassList, class_aliases
from training.rcnn.sampling import SamplingSettings


@dataclass(frozen=True)
class DatasetSpec:
    """A data set to learn from.

    ``weight`` is how many times as often as by its size its images are drawn; ``sampling`` says how many
    regions of each image are kept on disk [the recipe's].
    """

    dataset: Dataset
    weight: float = 1.0
    sampling: SamplingSettings | None = None


@dataclass(frozen=True)
class Part:
    """The images of one data set of a mix that have an object to learn from."""

    records: list[AnnotatedImage]
    weight: float
    sampling: SamplingSettings | None


@dataclass(frozen=True)
class Mix:
    """Data sets in one list of classes."""

    parts: list[Part]

    @property
    def records(self) -> list[AnnotatedImage]:
        """The images of all parts, in their order."""
        return [record for part in self.parts for record in part.records]

    @property
    def weights(self) -> NDArray[np.float64]:
        """How many times as often as others each image is drawn [N]."""
        return np.repeat([part.weight for part in self.parts], [len(part.records) for part in self.parts])

    @property
    def short_side(self) -> int:
        """The shorter side in pixels that larger images are reduced to: the largest median of a data set."""
        return max(
            int(np.median([min(record.width, record.height) for record in part.records]))
            for part in self.parts
        )


def mix(
    train: Dataset | Sequence[DatasetSpec],
    classes: ClassList,
    *,
    unknown: bool = False,
    labelled: bool = True,
) -> Mix:
    """Take the images with an object of ``classes``, in the labels of that list.

    With ``unknown`` also those that have objects of unknown class alone: MultiBox and the location head learn
    from them.

    The images of a set that has only some of the classes are partial: they say nothing of the others. Objects
    of classes that are not in the list become objects of unknown class: they are neither classified nor
    background, for the list may hold them in other words or parts. Raises ParameterError if a weight is not
    positive, or if no image has an object to learn from: with ``labelled`` one of the classes.
    """
    specs = [DatasetSpec(train)] if isinstance(train, Dataset) else train
    parts: list[Part] = []
    for spec in specs:
        if not spec.weight > 0:
            raise ParameterError(f"the weight of a data set must be positive, got {spec.weight}")
        records = [
            record
            for record in relabelled(spec.dataset, classes).records
            if len(record.boxes) or (unknown and len(record.unknown))
        ]
        if records:
            parts.append(Part(records, float(spec.weight), spec.sampling))
    if labelled and not any(len(record.boxes) for part in parts for record in part.records):
        raise ParameterError("no picture of the data has an object of the classes to learn from")
    if not parts:
        raise ParameterError("no picture of the data has an object to learn from")
    return Mix(parts)


def relabelled(dataset: Dataset, classes: ClassList) -> Dataset:
    """Put a data set into the labels of ``classes``, which are found by their id, name or alias."""
    if list(classes.ids) == dataset.class_ids:
        return dataset
    label_of = labels_in(dataset.class_ids, classes)
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


def labels_in(names: Sequence[str], classes: ClassList) -> NDArray[np.int64]:
    """Return the label [N] in ``classes`` of each class, by its id, name or alias; -1 where it has none."""
    wanted = [class_aliases(*pair) for pair in zip(classes.ids, classes.names, strict=True)]
    label_of = np.full(len(names), -1)
    for old, name in enumerate(names):
        if name in classes.ids:
            label_of[old] = classes.ids.index(name)
            continue
        aliases = class_aliases(name, name)
        label_of[old] = next((new for new, others in enumerate(wanted) if others & aliases), -1)
    return label_of


def spread(records: Sequence[AnnotatedImage], most: int) -> list[AnnotatedImage]:
    """Choose at most so many records, evenly from the whole list."""
    indices = np.linspace(0, len(records) - 1, min(most, len(records))).round().astype(int)
    return [records[index] for index in indices]
