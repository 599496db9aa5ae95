"""The worst mistakes of a detector: false positives of the highest scores, and the largest missed objects.

Letters for shapes: G ground truths and D detections of one image.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.evaluation.matching import EvaluatedImage, Rule, evaluated_images, match_detections
from detector.inference.detector import SCORE_THRESHOLD
from detector.io.visualization import draw
from detector.structures.boxes import Boxes, area, as_boxes, clip, exact_iou
from detector.structures.classes import ClassList
from detector.structures.detections import Detections

_MOST_OF_AN_IMAGE = 2  # the worst image would fill the page
_SIDE = 420  # pixels of a cut-out's longer side
_MARGIN = 0.5  # of the box's own size, around it


@dataclass(frozen=True)
class Mistake:
    """A false positive with its ``score``, or a missed object, whose score is NaN.

    box [4] in pixels of the image; ``what`` says in words what went wrong; the highest ``weight`` is worst.
    """

    record: AnnotatedImage
    box: Boxes
    label: int
    score: float
    what: str
    weight: float


def worst_false_positives(
    records: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    classes: ClassList,
    rule: Rule,
    most: int = 12,
) -> list[Mistake]:
    """Find detections that match no object, those with the highest scores first."""
    wrong = []
    for image in evaluated_images(records, detections, len(classes)):
        matched = match_detections(image, rule)
        overlaps = exact_iou(image.found.boxes, image.boxes)  # D x G
        for index in np.flatnonzero(matched < 0)[:_MOST_OF_AN_IMAGE]:  # best first
            label, score = int(image.found.labels[index]), float(image.found.scores[index])
            what = _why_wrong(label, overlaps[index], image.labels, classes)
            wrong.append(Mistake(image.record, image.found.boxes[index], label, score, what, score))
    return _worst(wrong, most)


def worst_missed(
    records: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    classes: ClassList,
    rule: Rule,
    most: int = 12,
) -> list[Mistake]:
    """Find objects that no detection over the usual score threshold matches, the largest share of their image
    first."""
    missed = []
    for image in evaluated_images(records, detections, len(classes)):
        matched = match_detections(image, rule)
        detected = set(matched[image.found.scores >= SCORE_THRESHOLD].tolist())
        for index in range(len(image.boxes)):
            if index not in detected and not image.difficult[index]:
                box, label = image.boxes[index], int(image.labels[index])
                share = float(area(box[None])[0]) / (image.record.width * image.record.height)
                what = _why_missed(index, matched, image)
                missed.append(Mistake(image.record, box, label, float("nan"), what, share))
    return _worst(missed, most)


def cut_out(mistake: Mistake, classes: ClassList) -> NDArray[np.uint8]:
    """Cut out the mistake's surroundings -> [h,w,3], with objects framed in white, a false positive in color.

    Raises ImageError if the image can no longer be read.
    """
    record, box = mistake.record, mistake.box
    margin = np.tile((box[2:] - box[:2]) * _MARGIN, 2) * (-1, -1, 1, 1)
    window = clip(as_boxes([box + margin]), record.width, record.height)[0]
    left, top = (int(np.floor(side)) for side in window[:2])
    right, bottom = (int(np.ceil(side)) for side in window[2:])
    image = Image.fromarray(load_image(record)[top : max(bottom, top + 1), left : max(right, left + 1)])
    scale = _SIDE / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
    offset = np.array([left, top, left, top], np.float32)
    for truth in (record.boxes - offset) * scale:
        _frame(image, truth)
    if np.isnan(mistake.score):
        return np.array(image)
    shown = clip((box - offset)[None] * scale, *image.size).astype(np.float32)
    detection = Detections(shown, np.array([mistake.label]), np.array([mistake.score], np.float32))
    return draw(np.array(image), detection, classes)


def _frame(image: Image.Image, box: Boxes) -> None:
    x1, y1, x2, y2 = (float(side) for side in box)
    pen = ImageDraw.Draw(image)
    for inset, colour, width in ((0, "black", 4), (1, "white", 2)):
        if x2 - x1 > 2 * inset and y2 - y1 > 2 * inset:
            pen.rectangle((x1 + inset, y1 + inset, x2 - inset, y2 - inset), outline=colour, width=width)


def _why_wrong(
    label: int, overlaps: NDArray[np.float64], labels: NDArray[np.int64], classes: ClassList
) -> str:
    """Say what is wrong with a false positive, by its IoU [G] with the objects, of these labels [G]."""
    same = float(overlaps[labels == label].max(initial=0))
    if same >= 0.5:
        return "found a second time"
    if same >= 0.1:
        return f"box fits badly (IoU {same:.2f})"
    others = np.where(labels != label, overlaps, 0)
    if len(others) and others.max() >= 0.5:
        return f"annotated as {classes.names[int(labels[others.argmax()])]}"
    return "nothing annotated here"


def _why_missed(index: int, matched: NDArray[np.int64], image: EvaluatedImage) -> str:
    scores = image.found.scores[matched == index]
    if len(scores):
        return f"found, but only at {scores.max():.2f}"
    overlaps = exact_iou(image.found.boxes, image.boxes[index : index + 1])[:, 0]
    near = overlaps[image.found.labels == image.labels[index]].max(initial=0)
    return f"best box of its class has IoU {near:.2f}" if near >= 0.1 else "nothing of its class found here"


def _worst(mistakes: Iterable[Mistake], most: int) -> list[Mistake]:
    chosen: list[Mistake] = []
    times: Counter[str] = Counter()
    for mistake in sorted(mistakes, key=lambda mistake: -mistake.weight):
        if len(chosen) < most and times[mistake.record.image_id] < _MOST_OF_AN_IMAGE:
            times[mistake.record.image_id] += 1
            chosen.append(mistake)
    return chosen
