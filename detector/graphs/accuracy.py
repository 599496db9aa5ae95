"""What a precision costs: the accuracy of a network on labelled pictures, in float32 and in another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_cls
from detector.datasets.load_image import load_image
from detector.datasets.open import open_dataset
from detector.errors import DatasetError, ImageError, ParameterError
from detector.evaluation.class_match import match_classes
from detector.evaluation.det_evaluation import evaluate
from detector.evaluation.voc import VOC
from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.placement import place
from detector.io.decoding import load
from detector.models.weights import Weights
from detector.structures.classes import ilsvrc_cls
from detector.structures.detections import Detections

_LEAST_SCORE = 0.001


@dataclass(frozen=True)
class Accuracy:
    """``measure`` is what was measured, on so many ``images``; ``values`` in 0..1, by precision."""

    measure: str
    images: int
    values: dict[str, float]


def detection_accuracy(
    weights: Weights, data: Path, count: int, engine: str, precisions: Sequence[str]
) -> Accuracy | None:
    """Measure mAP by PASCAL VOC's rule in each precision, on at most ``count`` pictures of a labelled data
    set, of its validation part if it has one.

    None for a folder that is no such data set, or has none of the detector's classes.
    """
    try:
        folder = open_dataset(data)
        dataset = folder.read("val" if "val" in folder.splits else None)
    except (DatasetError, OSError):
        return None
    detectors = {name: Detector(place(weights, engine=engine, precision=name)) for name in precisions}
    try:
        match = match_classes(next(iter(detectors.values())).classes, folder.classes)
    except ParameterError:  # none of the classes is in both lists
        return None
    step = max(len(dataset.records) // count, 1)
    records, found = [], {name: dict[str, Detections]() for name in precisions}
    for record in dataset.records[::step][:count]:
        try:
            image = load_image(record)
        except ImageError:
            continue
        records.append(match.record(record))
        for name, detector in detectors.items():
            (detections,) = detector.detect([image], score_threshold=_LEAST_SCORE)
            found[name][record.image_id] = match.detections(detections)
    if not records:
        return None
    values = {name: evaluate(records, each, len(folder.classes), VOC).mean_ap for name, each in found.items()}
    return Accuracy("mAP (VOC rule)", len(records), values)


def classification_accuracy(
    weights: Weights, data: Path, count: int, engine: str, precisions: Sequence[str]
) -> Accuracy | None:
    """Measure top-1 accuracy in each precision, on at most ``count`` pictures of ILSVRC's classification task
    in its official layout; None for another folder, or a classifier of other classes."""
    classes = weights.metadata.classification
    if classes is None or classes.ids != ilsvrc_cls().ids:
        return None
    try:
        dataset = read_ilsvrc_cls(data, "val")
    except (DatasetError, OSError):
        return None
    step = max(len(dataset.images) // count, 1)
    classifiers = {name: Classifier(place(weights, engine=engine, precision=name)) for name in precisions}
    right: dict[str, list[bool]] = {name: [] for name in precisions}
    count_read = 0
    for entry in dataset.images[::step][:count]:
        try:
            image = load(entry.path)
        except ImageError:
            continue
        count_read += 1
        for name, classifier in classifiers.items():
            right[name].append(bool(classifier.probabilities(image).argmax() == entry.label))
    if not count_read:
        return None
    return Accuracy(
        "top-1 accuracy", count_read, {name: float(np.mean(each)) for name, each in right.items()}
    )
