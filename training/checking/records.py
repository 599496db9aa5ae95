"""Check the annotations of a data set, and count its objects: class balance as a table and as a chart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.structures.boxes import iou
from detector.structures.classes import ClassList
from training.checking.findings import Finding

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # Okabe and Ito's, for colour-blind eyes
_BAR = 24  # characters of the longest bar
_SHOWN = 40  # classes that are printed; of more, the most and the least frequent
_LOG_FROM = 50  # times the least frequent class, from where on a linear axis hides it


@dataclass(frozen=True)
class Counts:
    """Of one split: pictures, those without objects and those ``partial``; objects [C] and pictures [C] of
    each class."""

    images: int
    without_objects: int
    partial: int
    objects: NDArray[np.int64]
    images_of: NDArray[np.int64]

    @classmethod
    def of(cls, records: Sequence[AnnotatedImage], classes: ClassList) -> "Counts":
        objects, images_of = (np.zeros(len(classes), np.int64) for _ in range(2))
        for record in records:
            np.add.at(objects, record.labels, 1)
            images_of[np.unique(record.labels)] += 1
        return cls(
            len(records),
            sum(not len(record.boxes) for record in records),
            sum(record.partial for record in records),
            objects,
            images_of,
        )


def balance_table(counts: Mapping[str, Counts], classes: ClassList) -> str:
    """Return a line a class, the most frequent first: objects of each split, and a bar of all."""
    total = sum(of_split.objects for of_split in counts.values())
    order = np.argsort(-np.asarray(total), kind="stable")
    most = max(int(np.max(total, initial=0)), 1)
    width = max([len(name) for name in classes.names] + [len("class")])
    columns = [(split or "objects", of_split.objects) for split, of_split in counts.items()]
    lines = [f"{'class':<{width}}" + "".join(f"  {name:>{max(7, len(name))}}" for name, _ in columns)]
    for place, label in enumerate(order):
        if len(order) > _SHOWN and place == _SHOWN // 2:
            lines.append(f"... {len(order) - 2 * (_SHOWN // 2)} more ...")
        if len(order) > _SHOWN and _SHOWN // 2 <= place < len(order) - _SHOWN // 2:
            continue
        bar = "#" * -(-int(np.asarray(total)[label]) * _BAR // most)
        numbers = "".join(f"  {objects[label]:>{max(7, len(name))}}" for name, objects in columns)
        lines.append(f"{classes.names[label]:<{width}}{numbers}  {bar}".rstrip())
    return "\n".join(lines)


def balance_chart(counts: Mapping[str, Counts], classes: ClassList, title: str) -> bytes:
    """Draw the objects of each class, the most frequent first, one colour a split, as a PNG file.

    The axis is logarithmic where the most frequent class has over 50 times the objects of the least.
    """
    total = np.sum([of_split.objects for of_split in counts.values()], axis=0)
    order = np.argsort(-total, kind="stable")
    present = total[total > 0]
    figure = Figure(figsize=(8, 1.6 + 0.2 * max(len(order), 4)), dpi=120, layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(order))
    height = 0.8 / max(len(counts), 1)
    for number, (split, of_split) in enumerate(counts.items()):
        axes.barh(
            places + (number - (len(counts) - 1) / 2) * height,
            of_split.objects[order],
            height,
            color=_COLOURS[number % len(_COLOURS)],
            label=f"{split or 'objects'}: {of_split.objects.sum():,} objects in {of_split.images:,} pictures",
        )
    if len(present) and present.max() > _LOG_FROM * present.min():
        axes.set_xscale("log")
    axes.set_yticks(places, [classes.names[label] for label in order], fontsize=8)
    axes.set(title=title, xlabel="objects", ylim=(len(order) - 0.4, -0.6))
    axes.grid(True, axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8)
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


TINY_SIDE = 8
"""Pixels; warped to a region's 224 such a side is blown up 28 times, and little of it is left to see."""

SAME_BOX = 0.9
"""IoU from which two boxes are one object drawn twice: people who draw one object agree less."""

FEW_OBJECTS = 20
"""Objects to learn from, under which a class is noted."""


def check_boxes(split: str, records: Sequence[AnnotatedImage], classes: ClassList) -> Iterator[Finding]:
    """Yield objects that were drawn twice or are tiny, and pictures without any."""
    for record in records:
        if not len(record.boxes):
            yield Finding("no_objects", split, record.image_id, f"{record.path} has no object")
            continue
        names = [classes.names[label] for label in record.labels]
        for index in np.flatnonzero((record.boxes[:, 2:] - record.boxes[:, :2]).min(axis=1) < TINY_SIDE):
            size = "x".join(f"{side:g}" for side in record.boxes[index, 2:] - record.boxes[index, :2])
            message = f"{record.path}: object {index + 1} ({names[index]}) has {size} pixels"
            yield Finding("tiny_box", split, record.image_id, message)
        first, second = np.nonzero(np.triu(iou(record.boxes, record.boxes) >= SAME_BOX, k=1))
        for a, b in zip(first, second, strict=True):
            kind = "duplicate_box" if record.labels[a] == record.labels[b] else "two_classes"
            message = (
                f"{record.path}: objects {a + 1} ({names[a]}) and {b + 1} ({names[b]}) have the same box: "
                f"{', '.join(f'{side:g}' for side in record.boxes[a])}"
            )
            yield Finding(kind, split, record.image_id, message)


def check_classes(counts: Mapping[str, Counts], train: str, classes: ClassList) -> Iterator[Finding]:
    """Yield classes that cannot be learnt, or not measured; ``train`` is the split that is learnt from."""
    others = [split for split in counts if split != train]
    for label, name in enumerate(classes.names):
        learnt = int(counts[train].objects[label])
        measured = {split: int(counts[split].objects[label]) for split in others}
        if not learnt and not any(measured.values()):
            yield Finding("class_unused", "", name, f"{name} has no object")
        elif not learnt:
            where = ", ".join(f"{number} in {split}" for split, number in measured.items() if number)
            yield Finding("class_not_trained", train, name, f"{name} has {where} and none in {train}")
        else:
            if learnt < FEW_OBJECTS:
                message = f"{name} has {learnt} objects in {train or 'the data set'}"
                yield Finding("few_objects", train, name, message)
            if others and not any(measured.values()):
                message = f"{name} has {learnt} objects in {train} and none in {', '.join(others)}"
                yield Finding("class_not_measured", train, name, message)
    yield from _similar(classes)


def _similar(classes: ClassList) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name in classes.names:
        plain = "".join(letter for letter in name.casefold() if letter.isalnum())
        if plain in seen:
            yield Finding("similar_classes", "", name, f"{seen[plain]!r} and {name!r} are two classes")
        seen.setdefault(plain, name)
