import numpy as np
import pytest

from detector.errors import ParameterError
from detector.evaluation.proposal_recall import FoundBy, found_by
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source

A, B, FAR = (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 90, 90)
SEARCH, MULTIBOX = Source.SELECTIVE_SEARCH, Source.MULTIBOX


def proposals(*pairs: tuple[Source, tuple[int, ...]]) -> Proposals:
    boxes = as_boxes([box for _, box in pairs])
    sources = np.array([source for source, _ in pairs], np.int8)
    return Proposals(boxes, sources, np.full(len(pairs), np.nan, np.float32))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(proposals((SEARCH, A)), FoundBy(1, 0, 0, 1), id="search finds one of two"),
        pytest.param(proposals((MULTIBOX, B), (MULTIBOX, A)), FoundBy(0, 2, 0, 0), id="MultiBox finds all"),
        pytest.param(
            proposals((SEARCH, A), (MULTIBOX, (0, 0, 10, 9)), (SEARCH, B)), FoundBy(1, 0, 1, 0), id="A twice"
        ),
        pytest.param(proposals((SEARCH, FAR), (MULTIBOX, FAR)), FoundBy(0, 0, 0, 2), id="elsewhere"),
        pytest.param(proposals(), FoundBy(0, 0, 0, 2), id="no proposals"),
    ],
)
def test_two_objects(found: Proposals, expected: FoundBy) -> None:
    assert found_by([as_boxes([A, B])], [found]) == expected
    assert expected.found == 2 - expected.neither


def test_pictures_add_up() -> None:
    truth = [as_boxes([A]), as_boxes([]), as_boxes([A, B])]
    found = [proposals((SEARCH, A)), proposals((MULTIBOX, B)), proposals((SEARCH, A), (MULTIBOX, B))]
    assert found_by(truth, found) == FoundBy(search_only=2, multibox_only=1, both=0, neither=0)


def test_pictures_must_agree() -> None:
    with pytest.raises(ParameterError):
        found_by([as_boxes([A])], [])
