"""Comparison of an exported network with the one that it was made of."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detector.graphs.exported import Task, exported_model
from detector.graphs.verification import AGREEMENTS, TOLERANCES, Feeds, compare, graph_runner
from detector.models.weights import Weights
from tests.detector.graphs.random_weights import classifier_weights, detector_weights

IMAGES = [np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8) for seed in range(2)]

Outputs = dict[str, np.ndarray]


def test_each_precision_has_its_bounds() -> None:
    assert TOLERANCES.keys() == AGREEMENTS.keys() == {"float32", "float16", "int8"}
    assert sorted(TOLERANCES.values()) == list(TOLERANCES.values())
    assert sorted(AGREEMENTS.values(), reverse=True) == list(AGREEMENTS.values())


@pytest.mark.parametrize(
    ("make", "classify", "inputs", "runs"),
    [
        pytest.param(detector_weights, False, {"image": 4, "windows": (32, 4)}, 4, id="each of two scales"),
        pytest.param(
            lambda: detector_weights(shared=False),
            False,
            {"rows": (32, 3, 224, 224)},
            2,
            id="each region warped",
        ),
        pytest.param(classifier_weights, True, {"rows": (1, 3, 224, 224)}, 2, id="a classifier"),
        pytest.param(
            detector_weights, True, {"rows": (1, 3, 224, 224)}, 2, id="the classifier of a detector"
        ),
    ],
)
def test_networks_are_run_as_they_are_used(
    make: Callable[[], Weights], classify: bool, inputs: dict[str, object], runs: int
) -> None:
    seen: list[Feeds] = []

    def run(feeds: Feeds) -> Outputs:
        seen.append(feeds)
        rows = 1 if classify else 32
        return {"probabilities": np.full((rows, 4), 0.25, np.float32)}

    found = compare(make(), classify, IMAGES, run, run)
    assert len(seen) == 2 * runs
    for ours, theirs in zip(seen[::2], seen[1::2], strict=True):
        assert ours is theirs, "both see the same"
        assert ours.keys() == inputs.keys()
        for name, value in ours.items():
            assert value.dtype == np.float32
            assert inputs[name] in (value.shape, value.ndim), name
        if "image" in ours:
            assert not any(side % 16 for side in ours["image"].shape[2:])
    assert (found.largest, found.agreement, found.others) == (0, 1, {})
    assert found.rows == 2 * runs // 2 * (1 if classify else 32)


def _outputs(probabilities: list[list[float]], **others: np.ndarray) -> Callable[[Feeds], Outputs]:
    """The rows of an image, again and again."""
    return lambda feeds: {"probabilities": np.array(probabilities, np.float32), **others}


COMPARISONS = [
    ("the same", [[0.7, 0.2, 0.1]], [[0.7, 0.2, 0.1]], 0.0, 1.0, 1),
    ("a little otherwise", [[0.7, 0.2, 0.1]], [[0.6, 0.3, 0.1]], 0.1, 1.0, 1),
    ("another class", [[0.6, 0.3, 0.1]], [[0.3, 0.6, 0.1]], 0.3, 0.0, 1),
    ("half of the rows", [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]], [[0.6, 0.3, 0.1], [0.3, 0.6, 0.1]], 0.3, 0.5, 2),
    ("rows that show nothing do not count", [[0.05, 0.04, 0.91]], [[0.95, 0.04, 0.01]], 0.9, 1.0, 0),
]


@pytest.mark.parametrize(
    ("expected", "got", "largest", "agreement", "rows"),
    [c[1:] for c in COMPARISONS],
    ids=[c[0] for c in COMPARISONS],
)
def test_what_differs_is_told(
    expected: list[list[float]], got: list[list[float]], largest: float, agreement: float, rows: int
) -> None:
    deltas = np.zeros((len(got), 4), np.float32)
    found = compare(
        detector_weights(shared=False),
        False,
        IMAGES[:1],
        _outputs(expected, deltas=deltas),
        _outputs(got, deltas=deltas + 0.5),
    )
    assert found.largest == pytest.approx(largest, abs=1e-6)
    assert (found.agreement, found.rows) == (agreement, rows)
    assert found.others == {"deltas": 0.5}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["probabilities", "deltas"])
def test_numbers_that_are_none_are_no_agreement(name: str, value: float) -> None:
    """A graph that gives NaN, for boxes alone even, is not let through."""
    sound = {"probabilities": np.array([[0.7, 0.2, 0.1]], np.float32), "deltas": np.zeros((1, 4), np.float32)}
    broken = sound | {name: np.full_like(sound[name], value)}
    weights = detector_weights(shared=False)
    found = compare(weights, False, IMAGES[:1], lambda feeds: sound, lambda feeds: broken)
    assert found.largest == np.inf


def test_a_real_graph_is_run_by_each_engine() -> None:
    """And one of other weights is found out."""
    weights = classifier_weights()
    reference = graph_runner("onnxruntime", exported_model(weights, Task.CLASSIFY, "float32"))
    same = graph_runner("openvino", exported_model(weights, Task.CLASSIFY, "float32"))
    found = compare(weights, True, IMAGES[:1], reference, same)
    assert found.largest < TOLERANCES["float32"]
    tensors = {name: value * np.float32(1.1) for name, value in weights.tensors.items()}
    other = exported_model(replace(weights, tensors=tensors), Task.CLASSIFY, "float32")
    found = compare(weights, True, IMAGES[:1], reference, graph_runner("onnxruntime", other))
    assert found.largest > TOLERANCES["float32"]
