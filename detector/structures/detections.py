"""What detection and classification of one image give: values that know their classes.

Letters for shapes: D detections, K classes of a whole image.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.structures.boxes import Boxes, clip
from detector.structures.class_choice import labels_of
from detector.structures.classes import ClassList
from detector.structures.explanation import Explanation

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv

    from detector.io.decoding import ImageInput

_WORDNET_ID = re.compile(r"n[0-9]{8}")  # of a synset, as ILSVRC's lists name their classes

Index = slice | NDArray[np.bool_] | NDArray[np.integer] | list[bool] | list[int]
"""Which of several detections: a range, a mask [D], or their numbers."""


@dataclass(frozen=True)
class Detection:
    """One object: its class by ``name``, ``class_id`` and number (``label``), its score in 0..1, its box
    ``(x1, y1, x2, y2)`` in pixels of the upright image, and its explanation, if one was asked for."""

    name: str
    class_id: str
    label: int
    score: float
    box: tuple[float, float, float, float]
    explanation: Explanation | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Objects found in one image, best first.

    boxes [D,4] float32 in pixels of the upright image, labels [D] int64, scores [D] float32 in 0..1.
    ``classes`` are those of the labels; what a detector finds has them, and methods that name a class need
    them: without, they raise ParameterError. ``regions`` [D] int64 are the rows of the regions that
    :func:`detector.inference.postprocess.select` kept, None for what comes from elsewhere; ``explanations``
    are of each detection one or None, and none at all where none were asked for.

    It has a length, is iterated as :class:`Detection`, and is indexed: ``found[0]`` is one of them,
    ``found[:5]``, ``found[found.scores > 0.5]`` and ``found[[2, 0]]`` are Detections.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: ClassList | None = None
    regions: NDArray[np.int64] | None = None
    explanations: tuple[Explanation | None, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: Index) -> "Detections": ...

    def __getitem__(self, index: int | Index) -> "Detection | Detections":
        if isinstance(index, int | np.integer):
            classes, label = self._named, int(self.labels[index])
            x1, y1, x2, y2 = map(float, self.boxes[index])
            return Detection(
                classes.names[label],
                classes.ids[label],
                label,
                float(self.scores[index]),
                (x1, y1, x2, y2),
                self.explanations[index] if self.explanations else None,
            )
        rows = index if isinstance(index, slice) else _rows(index)
        kept = np.arange(len(self))[rows] if self.explanations else ()
        return replace(
            self,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            scores=self.scores[rows],
            regions=self.regions[rows] if self.regions is not None else None,
            explanations=tuple(self.explanations[row] for row in kept),
        )

    def __repr__(self) -> str:
        if self.classes is None:
            return f"<{len(self)} detections of unnamed classes>"
        listed = [f"{found.name} {found.score:.2f}" for found in self[:8]]
        more = [f"and {len(self) - 8} more"] if len(self) > 8 else []
        return f"<{len(self)} detections{': ' if listed else ''}{', '.join(listed + more)}>"

    def __str__(self) -> str:
        """Return a line an object: score, class, corners of the box."""
        width = max((len(name) for name in self.names), default=0)
        return "\n".join(
            f"{found.score:6.1%}  {found.name:<{width}}  {'  '.join(f'{side:7.1f}' for side in found.box)}"
            for found in self
        )

    @property
    def names(self) -> list[str]:
        """The class name of each."""
        return [self._named.names[label] for label in self.labels]

    def of_classes(self, *names: str) -> "Detections":
        """Return those of some classes, by their names or ids. Raises ParameterError for one that is none."""
        return self[np.isin(self.labels, labels_of(names, self._named))]

    def above(self, score: float) -> "Detections":
        """Return those whose score is ``score`` or more."""
        return self[self.scores >= score]

    def as_dicts(self, classes: ClassList | None = None) -> list[dict[str, Any]]:
        """Return one dict an object: ``label``, ``wnid`` or ``class_id``, ``score``, ``box`` in pixels, and
        ``explanation`` where there is one.

        A class whose id is a WordNet id has a ``wnid``, any other a ``class_id``. ``classes`` are the
        detections' own unless given.
        """
        classes = classes or self._named
        explanations = self.explanations or [None] * len(self)
        return [
            {
                **_class_keys(classes, label),
                "score": round(score, 4),
                "box": {
                    "xmin": round(x1, 1),
                    "ymin": round(y1, 1),
                    "xmax": round(x2, 1),
                    "ymax": round(y2, 1),
                },
                **({"explanation": explanation.as_dict()} if explanation is not None else {}),
            }
            for (x1, y1, x2, y2), label, score, explanation in zip(
                self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), explanations, strict=True
            )
        ]

    def to_coco(self, image_id: int | str = 1) -> list[dict[str, Any]]:
        """Return results in COCO's form, as ``COCO.loadRes`` takes them: ``bbox`` is x, y, width and height,
        a category's id is its label + 1."""
        return [
            {
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), label, score in zip(
                self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True
            )
        ]

    def to_df(self) -> "pd.DataFrame":
        """Return a pandas DataFrame with a row an object: name, class_id, score, xmin, ymin, xmax, ymax."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ParameterError("to_df needs pandas: pip install pandas") from error
        corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), self.boxes.T, strict=True))
        texts = {"name": self.names, "class_id": [self._named.ids[label] for label in self.labels]}
        named = {
            key: pandas.Series(values, dtype=str) for key, values in texts.items()
        }  # none are texts, too
        return pandas.DataFrame({**named, "score": self.scores, **corners})

    def to_supervision(self) -> "sv.Detections":
        """Return ``supervision.Detections``, class names in ``data["class_name"]``."""
        try:
            import supervision
        except ModuleNotFoundError as error:
            raise ParameterError("to_supervision needs supervision: pip install supervision") from error
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32),
            confidence=self.scores.astype(np.float32),
            class_id=self.labels.astype(int),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def draw(self, image: "ImageInput") -> NDArray[np.uint8]:
        """Return a copy of the image, uint8 [H,W,3], with a frame and a tag for each object; a small one is
        enlarged (:func:`detector.io.visualization.draw`).

        ``image`` is the one that they were found in, in any form that a detector takes. Raises ParameterError
        and ImageError as :func:`detector.io.decoding.as_rgb`.
        """
        from detector.io.visualization import draw

        return draw(_pixels(image), self, self._named)

    def draw_explanation(self, image: "ImageInput", index: int) -> NDArray[np.uint8]:
        """Return a copy of the image, uint8 [H,W,3], that shows why one of them has its score: its class
        activation map, its frame, and the factors below. Raises ParameterError for one that is not explained;
        ``image`` and its errors are as of :meth:`draw`."""
        from detector.io.heat_map import draw_explanation

        return draw_explanation(_pixels(image), self, index)

    def crops(self, image: "ImageInput") -> list[NDArray[np.uint8]]:
        """Cut each object out of its image [H,W,3]: whole pixels, at least one, views of an array's memory.
        ``image`` and its errors are as of :meth:`draw`."""
        image = _pixels(image)
        height, width = image.shape[:2]
        boxes = clip(self.boxes, width, height)
        first = np.minimum(np.floor(boxes[:, :2]), (width - 1, height - 1)).astype(int)
        last = np.maximum(np.ceil(boxes[:, 2:]).astype(int), first + 1)
        return [image[y1:y2, x1:x2] for (x1, y1), (x2, y2) in zip(first.tolist(), last.tolist(), strict=True)]

    @property
    def _named(self) -> ClassList:
        return _known(self.classes)


def _pixels(image: "ImageInput") -> NDArray[np.uint8]:
    from detector.io.decoding import as_rgb  # decoders are loaded where images are read
    from detector.io.rgb import check_image

    pixels = as_rgb(image)
    check_image(pixels)
    return pixels


def _rows(index: NDArray[Any] | Sequence[Any]) -> NDArray[Any]:
    rows = np.asarray(index)
    return rows if rows.size or rows.dtype == bool else rows.astype(np.int64)  # of [] NumPy makes floats


@dataclass(frozen=True, eq=False)
class Classification:
    """The likeliest classes of one image, best first: labels [K] int64, scores [K] float32 in 0..1, and the
    list of ``classes`` that the labels number."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: ClassList | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """The name of each class. Raises ParameterError where the classes are not known."""
        return [_known(self.classes).names[label] for label in self.labels]

    def as_dicts(self, classes: ClassList | None = None) -> list[dict[str, Any]]:
        """Return one dict a class: ``label``, ``wnid`` or ``class_id``, as of detections, and ``score``."""
        classes = classes or _known(self.classes)
        return [
            {**_class_keys(classes, label), "score": round(float(score), 4)}
            for label, score in zip(self.labels, self.scores, strict=True)
        ]


def _known(classes: ClassList | None) -> ClassList:
    if classes is None:
        raise ParameterError("the names of the classes are not known: make it with classes=")
    return classes


def _class_keys(classes: ClassList, label: int) -> dict[str, str]:
    class_id = classes.ids[label]
    key = "wnid" if _WORDNET_ID.fullmatch(class_id) else "class_id"
    return {"label": classes.names[label], key: class_id}
