"""Networks that are run by others, row by row, give what they give when run at once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.engine import Outputs, concatenated
from detector.inference.executor import ForwardRequest, Priority, with_mirrored
from detector.inference.loading import load_classifier, load_detector
from detector.inference.scoring import Scoring


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


class Backwards:
    """Runs a request a row at a time, last row first, and notes the rows and the urgency of each request."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.urgent: list[bool] = []

    def __call__(self, request: ForwardRequest) -> Outputs:
        self.rows.append(request.rows)
        self.urgent.append(request.priority is Priority.URGENT)
        with torch.inference_mode():
            rows = [
                request.engine.start(request.make_crops(row, row + 1)).finish()
                for row in reversed(range(request.rows))
            ]
        return concatenated(rows[::-1])


@pytest.mark.parametrize(
    ("profile", "rows", "urgent"),
    [
        pytest.param(
            "fast", [1, 10, 5], [True, False, False], id="MultiBox, regions and the whole, refinement"
        ),
        pytest.param("search", [10, 5], [False, False], id="no MultiBox"),
    ],
)
def test_a_detection_in_other_company(
    detector: Detector, image: np.ndarray, profile: str, rows: list[int], urgent: list[bool]
) -> None:
    executor = Backwards()
    view = detector.view(image)
    proposals = detector.propose(view, profile, executor=executor)
    regions = detector.score(view, proposals, executor=executor)
    regions = detector.refine(view, regions, executor=executor)
    boxes = detector.select(regions, score_threshold=0).boxes
    assert (executor.rows, executor.urgent) == (rows, urgent)
    [expected] = detector.detect([image], profile=profile, score_threshold=0)
    assert len(expected)
    assert np.allclose(boxes, expected.boxes, atol=0.05)


@pytest.mark.parametrize("crops", [1, 10])
def test_a_classification_in_other_company(classifier: Classifier, image: np.ndarray, crops: int) -> None:
    executor = Backwards()
    probabilities = classifier.probabilities(image, crops=crops, executor=executor)
    assert executor.rows == [crops]
    assert np.allclose(probabilities, classifier.probabilities(image, crops=crops), atol=1e-5)


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
