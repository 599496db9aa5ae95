"""Steps that are driven by others give what the steps of one call give."""

from pathlib import Path

import numpy as np
import pytest
import torch

from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.image_view import View
from detector.inference.loading import load_classifier, load_detector
from detector.inference.looks import Look, Steps, T, complete, with_mirrored
from detector.inference.region_crops import Preprocessing, normalise, warp
from detector.inference.scoring import Scoring
from detector.structures.boxes import as_boxes


@pytest.fixture(scope="module")
def detector(multibox_path: Path) -> Detector:
    scoring = Scoring(context_power=0.5, refine=1, refine_regions=5)
    return load_detector(multibox_path, device="cpu", precision="float32", max_proposals=9, scoring=scoring)


@pytest.fixture(scope="module")
def classifier(checkpoint_path: Path) -> Classifier:
    return load_classifier(checkpoint_path, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def row_by_row(steps: Steps[T]) -> tuple[T, list[int]]:
    """The result of steps whose looks are run a row at a time, last row first, and each look's rows."""
    asked = []
    try:
        look = next(steps)
        while True:
            asked.append(look.rows)
            look = steps.send(_backwards(look))
    except StopIteration as end:
        return end.value, asked


def _backwards(look: Look) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        rows = [look.engine.start(look.crops(row, row + 1)).finish() for row in reversed(range(look.rows))]
    return tuple(torch.cat(column[::-1]) for column in zip(*rows, strict=True))


@pytest.mark.parametrize(
    ("profile", "rows"),
    [
        pytest.param("fast", [1, 10, 5], id="a glance, regions and the whole picture, the second look"),
        pytest.param("search", [10, 5], id="no glance without MultiBox"),
    ],
)
def test_a_detection_in_other_company(
    detector: Detector, image: np.ndarray, profile: str, rows: list[int]
) -> None:
    def detecting() -> Steps[np.ndarray]:
        view = detector.view(image)
        proposals = yield from detector.proposing(view, profile)
        regions = yield from detector.scoring_regions(view, proposals)
        return detector.select(regions, score_threshold=0).boxes

    boxes, asked = row_by_row(detecting())
    assert asked == rows
    [expected] = detector.detect([image], profile=profile, score_threshold=0)
    assert len(expected)
    assert np.allclose(boxes, expected.boxes, atol=0.05)


@pytest.mark.parametrize("crops", [1, 10])
def test_a_classification_in_other_company(classifier: Classifier, image: np.ndarray, crops: int) -> None:
    probabilities, asked = row_by_row(classifier.looking(image, crops=crops))
    assert asked == [crops]
    assert np.allclose(probabilities, complete(classifier.looking(image, crops=crops)), atol=1e-5)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        pytest.param(0, 2, [1, 2], id="plain alone"),
        pytest.param(3, 6, [-1, -2, -3], id="mirrored alone"),
        pytest.param(1, 5, [2, 3, -1, -2], id="across"),
        pytest.param(0, 0, [], id="none"),
    ],
)
def test_mirrored_rows_come_after_the_plain(first: int, last: int, expected: list[int]) -> None:
    rows = torch.tensor([[-1.0, 1.0], [-2.0, 2.0], [-3.0, 3.0]]).view(3, 1, 1, 2)  # left, right of a crop
    both = with_mirrored(lambda a, b: rows[a:b], 3)
    assert both(first, last)[:, 0, 0, 1].tolist() == expected


def test_a_view_gives_the_crops_of_its_reduced_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 1000, 3), np.uint8)
    prepare = Preprocessing((100, 110, 120), (1, 2, 3), context=0, short_side=45)
    view = View(image, prepare)
    assert (view.width, view.height, view.pixels.shape) == (1000, 90, (45, 500, 3))
    boxes = as_boxes([(0, 0, 1000, 90), (100, 20, 140, 60)])
    cpu = torch.device("cpu")
    got = view.crops(boxes * view.factors, 224, cpu)
    expected = warp(normalise(view.pixels, prepare, cpu), boxes / 2, prepare)
    assert torch.allclose(got, expected, atol=1e-3)
    assert torch.equal(view.crops(view.whole, 224, cpu)[0], got[0])
