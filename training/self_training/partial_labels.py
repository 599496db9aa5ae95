"""A data set in COCO's layout of boxes that a detector found, whose pictures stay where they are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import ParameterError
from detector.io.atomic_write import write_whole
from detector.io.terminal_text import printable_path
from detector.structures.boxes import Boxes, area, as_boxes, intersection
from detector.structures.classes import ClassList
from training.self_training.classified_pictures import ClassifiedPicture
from training.self_training.found_boxes import FoundBoxes
from training.trainer.command_errors import add_path_to_errors

FURTHER = 0.6
"""Least score of a further box of a picture that is an object: below it most are parts of one, however sure
the best box is."""

DOUBTFUL = 0.3
"""A further box with this share of the score that the best one must have may be an object, too."""

_PART = 0.5  # a box with so much of its area in a sure one is part of that object

ANNOTATIONS, PICTURES = Path("annotations/instances_train.json"), Path("train")
"""Where the boxes and the links to the pictures lie in a set."""


@dataclass(frozen=True)
class LabelledPicture:
    """A picture of the stored size ``width`` x ``height``, the ``sure`` boxes [G,4] of its class, and the
    ``doubtful`` ones [K,4], which are neither objects nor background."""

    picture: ClassifiedPicture
    width: int
    height: int
    sure: Boxes
    doubtful: Boxes

    @classmethod
    def of(cls, picture: ClassifiedPicture, found: FoundBoxes, score: float) -> "LabelledPicture | None":
        """Label a picture by its best box, if that has at least this score, and by further ones that are
        sure; None where the best has not."""
        boxes, scores = as_boxes(found.boxes), np.array(found.scores)  # D x 4, D; best first
        if not len(boxes) or scores[0] < score:
            return None
        is_sure = scores >= max(score, FURTHER)
        is_sure[0] = True
        sure, others = boxes[is_sure], boxes[~is_sure & (scores >= DOUBTFUL * score)]
        inside = intersection(others, sure).max(axis=1) / np.maximum(area(others), 1)
        return cls(picture, found.width, found.height, sure, others[inside < _PART])


def write_partial_labels(output: Path, pictures: Sequence[LabelledPicture], classes: ClassList) -> None:
    """Write a set that :func:`detector.datasets.open.open_dataset` reads, its one split ``train``.

    The classes are those of ``classes`` that occur, by their ids: a WordNet id is never mistaken for another
    class. Every picture is marked as partial: what stands in it besides is not known. Doubtful boxes are
    crowds. ``train`` holds symbolic links to the pictures, made before the annotations are written, and
    links of an earlier run that are no longer used are removed after it. Raises WriteError, OSError, or
    ParameterError where a file is in a link's way.
    """
    links = {output / PICTURES / image.picture.name: image.picture.path.absolute() for image in pictures}
    for link, target in links.items():
        _link(link, target)
    content = json.dumps(_content(pictures, classes))
    write_whole(output / ANNOTATIONS, content.encode())
    for path in sorted((output / PICTURES).rglob("*")):
        if path.is_symlink() and path not in links:
            with add_path_to_errors(path):
                path.unlink()


def _link(link: Path, target: Path) -> None:
    with add_path_to_errors(link):
        if link.is_symlink():
            if link.readlink() == target:
                return
            link.unlink()
        elif link.exists():
            raise ParameterError(f"{printable_path(link)} is no link: delete it, or give another --output")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def _content(pictures: Sequence[LabelledPicture], classes: ClassList) -> dict[str, Any]:
    used = sorted({image.picture.label for image in pictures})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(pictures, start=1):
        name = image.picture.name
        images.append(
            {"id": number, "file_name": name, "width": image.width, "height": image.height, "partial": True}
        )
        for boxes, crowd in ((image.sure, 0), (image.doubtful, 1)):
            for x1, y1, x2, y2 in boxes.astype(float).round(2).tolist():
                box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": image.picture.label + 1,
                        "bbox": box,
                        "area": round(box[2] * box[3], 2),
                        "iscrowd": crowd,
                    }
                )
    categories = [{"id": label + 1, "name": classes.ids[label]} for label in used]
    return {"images": images, "annotations": annotations, "categories": categories}
