"""The whole way of R-CNN (arXiv 1311.2524) from a picture to its objects, in the order in which it happens.

    .venv/bin/python examples/rcnn_in_fifty_lines.py examples/cat.jpg

Only the proposals and the network are the project's own; all else is written out, one region after the other.
`detector.Detector` does the same in batches, and more: it reduces photographs that are larger than those the
network learned from, and has MultiBox, maps that all regions share, scores by the whole picture, and voting.
tests/test_rcnn_in_fifty_lines.py holds the two together. Letters for shapes: R regions, C classes.
"""

import sys

import numpy as np
from PIL import Image, ImageOps

from detector.inference.placement import place
from detector.inference.preprocessing import Preprocessing
from detector.models.weights import Weights, read_weights
from detector.pretrained import SHIPPED
from detector.proposals.selective_search.search import selective_search


def detect(
    path: str, weights: Weights, regions: int = 120, threshold: float = 0.3, nms_iou: float = 0.3
) -> list[tuple[float, str, np.ndarray]]:
    """Return the objects of a picture, best first: score, class, and box x1, y1, x2, y2 in its pixels."""
    crop, classes = weights.metadata.preprocessing, weights.metadata.detection
    assert classes is not None, "these weights classify whole pictures"
    # Decode: RGB, the right way up.
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    # Proposals: where objects may be.
    boxes = selective_search(np.asarray(picture), max_boxes=regions).boxes
    # Warp: each region with what is around it becomes a square. The network says what it shows, and where.
    crops = np.stack([warp(picture, add_context(box, crop), crop) for box in boxes])
    outputs = place(weights, precision="float32").region_engine([0], batch=len(crops)).start(crops).finish()
    scores = outputs["0.probabilities"][:, :-1]  # R x C: the last of C+1 is background
    # Box regression (appendix C): the centre moves by shares of the sides, the sides grow by powers of e.
    side, offsets = boxes[:, 2:] - boxes[:, :2], outputs["0.deltas"]
    centre, half = boxes[:, :2] + side / 2 + offsets[:, :2] * side, side * np.exp(offsets[:, 2:]) / 2
    boxes = np.hstack([centre - half, centre + half]).clip(0, picture.size * 2)
    # Suppression: of the boxes of a class that overlap, the best stays.
    found: list[tuple[float, int, np.ndarray]] = []
    likely = np.argwhere(scores >= threshold)
    for region, label in sorted(likely, key=lambda pair: -scores[tuple(pair)]):
        if all(iou(boxes[region], box) <= nms_iou for _, other, box in found if other == label):
            found.append((float(scores[region, label]), label, boxes[region]))
    return [(score, classes.names[label], box) for score, label, box in found]


def add_context(box: np.ndarray, crop: Preprocessing) -> np.ndarray:
    """Widen a box so that its crop has ``context`` pixels around it on each side."""
    centre, side = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1)
    half = side / 2 * crop.size / (crop.size - 2 * crop.context)
    return np.concatenate([centre - half, centre + half])


def warp(picture: Image.Image, window: np.ndarray, crop: Preprocessing) -> np.ndarray:
    """Stretch a window to [3,size,size], bilinearly; what lies outside the picture is the mean colour, 0."""
    halved = 2 ** int(max(0, np.log2(min(window[2:] - window[:2]) / crop.size)))  # against aliasing
    pixels = (np.asarray(picture.reduce(halved), np.float32) - crop.mean) / crop.std
    pixels = np.pad(pixels, ((1, 2), (1, 2), (0, 0)))
    centres = (np.arange(crop.size) + 0.5) / crop.size
    across, down = (
        ((window[i] + centres * (window[i + 2] - window[i])) / halved + 0.5).clip(0, pixels.shape[1 - i] - 2)
        for i in (0, 1)
    )
    left, top = across.astype(int), down.astype(int)
    right_share, below_share = (across - left)[:, None], (down - top)[:, None, None]
    rows = pixels[top] * (1 - below_share) + pixels[top + 1] * below_share
    square = rows[:, left] * (1 - right_share) + rows[:, left + 1] * right_share
    return square.transpose(2, 0, 1).astype(np.float32)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over the union of two boxes, 0 where both are empty."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / ((np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared) or 1)


if __name__ == "__main__":
    for score, name, box in detect(sys.argv[1], read_weights(SHIPPED)):
        print(f"{score:.3f} {name} {box.round(1).tolist()}")
