"""AP of proposals: by hand, and what it is not known of."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.evaluation.proposal_precision import NMS_IOU, proposal_average_precision
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source

A, B, FAR = (0, 0, 10, 10), (20, 20, 40, 40), (60, 60, 70, 70)
NEAR_A = (0, 0, 10, 9)  # IoU with A is 0.9
HALF_A = (0, 0, 10, 5)  # 0.5: counts as found, and is not suppressed by A
Box = tuple[int, int, int, int]


def ranked(*boxes: tuple[Box, float]) -> Proposals:
    objectness = np.array([sure for _, sure in boxes], np.float32)
    source = np.full(len(boxes), Source.MULTIBOX, np.int8)
    return Proposals(as_boxes([box for box, _ in boxes]), source, objectness)


@pytest.mark.parametrize(
    ("truths", "proposals", "expected"),
    [
        pytest.param([[A, B]], [ranked((A, 0.9), (B, 0.8))], 1.0, id="all found"),
        pytest.param([[A, B]], [ranked((A, 0.9))], 0.5, id="one of two"),
        pytest.param([[A]], [ranked((FAR, 0.9), (A, 0.8))], 0.5, id="a wrong one before it"),
        pytest.param([[A]], [ranked((A, 0.8), (FAR, 0.7))], 1.0, id="behind it costs nothing"),
        pytest.param(
            [[A, B]], [ranked((A, 0.9), (NEAR_A, 0.8), (B, 0.7))], 1.0, id="a second box is left out"
        ),
        pytest.param(
            [[A, B]], [ranked((A, 0.9), (HALF_A, 0.8), (B, 0.7))], (1 + 2 / 3) / 2, id="a duplicate"
        ),
        pytest.param([[A]], [ranked((A, 0.2), (FAR, 0.9))], 0.5, id="the order is that of objectness"),
        pytest.param(
            [[A], [A]], [ranked((FAR, 0.9)), ranked((A, 0.5))], 0.25, id="over all pictures together"
        ),
        pytest.param([[A], []], [ranked((A, 0.5)), ranked((B, 0.9))], 0.5, id="a picture of nothing"),
        pytest.param([[A]], [ranked()], 0.0, id="no proposals"),
    ],
)
def test_by_hand(truths: list[list[Box]], proposals: list[Proposals], expected: float) -> None:
    assert NMS_IOU == 0.5
    found = proposal_average_precision([as_boxes(boxes) for boxes in truths], proposals)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("truths", "proposals"),
    [
        pytest.param([], ranked((A, 0.9)), id="no objects"),
        pytest.param([A], Proposals.of(as_boxes([A]), Source.SELECTIVE_SEARCH), id="no objectness"),
    ],
)
def test_where_it_is_not_known(truths: list[Box], proposals: Proposals) -> None:
    assert np.isnan(proposal_average_precision([as_boxes(truths)], [proposals]))


def test_sequences_that_do_not_agree() -> None:
    with pytest.raises(ParameterError, match="1 pictures of ground truth, 2 of proposals"):
        proposal_average_precision([as_boxes([A])], [ranked((A, 0.9))] * 2)
