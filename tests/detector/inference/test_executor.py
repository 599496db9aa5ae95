"""Networks that are run by others, row by row, give what they give when run at once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.engine import Outputs, concatenated
from detector.inference.executor import ForwardRequest, run_directly, with_mirrored
from detector.inference.loading import load_classifier, load_detector
from detector.inference.scoring import Scoring
from detector.inference.torch_arrays import TorchArrays
from detector.inference.torch_engine import InferenceNetwork, TensorOutputs, TorchEngine


@pytest.fixture(scope="module")
def detector(multibox_path: Path) -> Detector:
    scoring = Scoring(context_power=0.5)
    return load_detector(multibox_path, device="cpu", precision="float32", max_proposals=9, scoring=scoring)


@pytest.fixture(scope="module")
def classifier(checkpoint_path: Path) -> Classifier:
    return load_classifier(checkpoint_path, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


class Backwards:
    """Runs a request a row at a time, last row first, and notes the rows of each request."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, request: ForwardRequest) -> Outputs:
        self.rows.append(request.rows)
        with torch.inference_mode():
            rows = [
                request.engine.start(request.make_crops(row, row + 1)).finish()
                for row in reversed(range(request.rows))
            ]
        return concatenated(rows[::-1], request.engine.arrays)


@pytest.mark.parametrize(
    ("profile", "rows"),
    [
        pytest.param(
            "fast",
            [1, 1, 10],
            id="MultiBox at two scales, regions and the whole",
        ),
        pytest.param("search", [10], id="no MultiBox"),
    ],
)
def test_a_detection_in_other_company(
    detector: Detector, image: np.ndarray, profile: str, rows: list[int]
) -> None:
    executor = Backwards()
    view = detector.view(image)
    proposals = detector.propose(view, profile, executor=executor)
    regions = detector.score(view, proposals, executor=executor)
    boxes = detector.select(regions, score_threshold=0).boxes
    assert executor.rows == rows
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
    both = with_mirrored(lambda a, b: rows[a:b], 3, TorchArrays(torch.device("cpu")))
    assert both(first, last)[:, 0, 0, 1].tolist() == expected


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("count", "rows", "batches"),
    [
        pytest.param(1, 5, [3, 2], id="one thread: batches of the engine's size"),
        pytest.param(2, 5, [3, 2], id="two threads: halves"),
        pytest.param(2, 9, [3, 3, 3], id="more than a batch for each"),
        pytest.param(3, 4, [2, 2], id="even shares"),
        pytest.param(4, 1, [1], id="one row"),
        pytest.param(2, 0, [0], id="no rows"),
    ],
)
def test_batches_run_beside_each_other_in_the_order_of_the_rows(
    threads: Callable[[int], None], count: int, rows: int, batches: list[int]
) -> None:
    """On threads that help no other, and the caller's own number of threads stays."""
    seen: list[tuple[int, int]] = []

    def heads(maps: torch.Tensor) -> TensorOutputs:
        seen.append((len(maps), torch.get_num_threads()))
        return {"sum": maps.sum(dim=(1, 2, 3))}

    engine = TorchEngine(InferenceNetwork(torch.nn.Identity(), heads), batch=3)
    crops = torch.arange(rows, dtype=torch.float32)[:, None, None, None].expand(rows, 1, 2, 2)
    threads(count)
    outputs = run_directly(ForwardRequest.of(engine, crops))
    assert outputs["sum"].tolist() == [4.0 * row for row in range(rows)]
    assert sorted(length for length, _ in seen) == sorted(batches)
    assert {used for _, used in seen} == ({1} if len(batches) > 1 else {count})
    assert torch.get_num_threads() == count


def test_an_error_in_a_batch_reaches_the_caller(threads: Callable[[int], None]) -> None:
    def heads(maps: torch.Tensor) -> TensorOutputs:
        raise ValueError("this batch")

    engine = TorchEngine(InferenceNetwork(torch.nn.Identity(), heads), batch=1)
    threads(2)
    with pytest.raises(ValueError, match="this batch"):
        run_directly(ForwardRequest.of(engine, torch.zeros(4, 1, 2, 2)))
