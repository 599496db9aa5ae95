"""Pictures and detections in few words, for tables of cases."""

from pathlib import Path

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage
from detector.structures.boxes import as_boxes
from detector.structures.detections import Detections

Box = tuple[float, float, float, float]


def record(
    image_id: str,
    *objects: tuple[int, Box],
    partial: bool = False,
    difficult: tuple[int, ...] = (),
    size: tuple[int, int] = (500, 500),
) -> AnnotatedImage:
    """A picture of objects, label and box each; ``difficult`` are the numbers of those that are."""
    boxes = as_boxes([box for _, box in objects])
    labels = np.array([label for label, _ in objects], np.int64)
    marks = np.isin(np.arange(len(objects)), difficult)
    return AnnotatedImage(image_id, Path(f"{image_id}.JPEG"), *size, boxes, labels, partial, difficult=marks)


def found(*detections: tuple[int, float, Box]) -> Detections:
    """Detections, label, score and box each."""
    return Detections(
        as_boxes([box for _, _, box in detections]),
        np.array([label for label, _, _ in detections], np.int64),
        np.array([score for _, score, _ in detections], np.float32),
    )


def contested(seed: int, classes: int = 3) -> tuple[list[AnnotatedImage], dict[str, Detections]]:
    """A random set: whole-pixel boxes in few places and few distinct scores, so that ties are common."""
    random = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = random.integers(0, 12, (count, 2)) * 2
        sides = random.integers(4, 40, (count, 2))
        return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)

    ground_truth, detections = [], {}
    for number in range(random.integers(1, 6)):
        count = random.integers(0, 6)
        name = f"p{number}"
        labels, difficult = random.integers(0, classes, count), random.random(count) < 0.3
        ground_truth.append(
            AnnotatedImage(name, Path(name), 64, 64, boxes(count), labels, difficult=difficult)
        )
        if random.random() < 0.8:
            count = random.integers(0, 20)
            scores = random.integers(0, 6, count).astype(np.float32) / 5
            detections[name] = Detections(boxes(count), random.integers(0, classes, count), scores)
    return ground_truth, detections
