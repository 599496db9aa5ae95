"""The mean of two trainings of one network: each number, what is kept of the metadata, what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.cli import weights as command
from detector.errors import CheckpointError, DetectorError, ParameterError
from detector.models.checkpoint import load_checkpoint
from detector.models.checkpoint_file import write_file
from detector.models.weight_averaging import average_weights
from detector.models.weights import REAL, Weights, read_weights
from tests.detector.graphs.random_weights import classifier_weights, detector_weights


@pytest.fixture(scope="module")
def first() -> Weights:
    """A detector with all heads, whose metadata say what was measured with it."""
    weights = detector_weights(location=True, whole=True, multibox=True)
    metadata = replace(
        weights.metadata,
        training={"iterations": 7},
        metrics={"mAP": 0.5},
        activation_ranges={"conv1": 1.0},
    )
    return replace(weights, metadata=metadata)


@pytest.fixture(scope="module")
def second(first: Weights) -> Weights:
    """The same, trained on: every number is three times as large."""
    tensors = {
        name: (value * 3).astype(value.dtype) if value.dtype.name in REAL else value
        for name, value in first.tensors.items()
    }
    return replace(first, tensors=tensors, metadata=replace(first.metadata, training={"iterations": 9}))


@pytest.mark.parametrize(
    ("share", "factor"),
    [
        pytest.param(0.0, 1.0, id="all of the first"),
        pytest.param(0.5, 2.0, id="half way from one to three"),
        pytest.param(0.25, 1.5, id="a quarter of the way"),
        pytest.param(1.0, 3.0, id="all of the second"),
    ],
)
def test_each_number_lies_between_the_two(
    first: Weights, second: Weights, share: float, factor: float
) -> None:
    mean = average_weights(first, second, share)
    assert mean.tensors.keys() == first.tensors.keys()
    for name, value in first.tensors.items():
        assert mean.tensors[name].dtype == value.dtype
        if value.dtype.name in REAL:
            wanted = value.astype(np.float64) * factor
            assert np.allclose(mean.tensors[name].astype(np.float64), wanted, rtol=2e-3, atol=1e-6), name
        else:
            assert np.array_equal(mean.tensors[name], value), name


def test_what_was_measured_with_the_first_is_not_said_of_the_mean(first: Weights, second: Weights) -> None:
    metadata = average_weights(first, second, 0.5).metadata
    assert metadata.metrics == {}
    assert metadata.activation_ranges is None
    assert metadata.thresholds is None
    assert metadata.training == {"iterations": 7, "averaged_with": [{"share": 0.5, "iterations": 9}]}


@pytest.mark.parametrize(
    "earlier",
    [
        pytest.param([{"share": 0.5, "iterations": 8}], id="a mean already"),
        pytest.param({"share": 0.5, "iterations": 8}, id="of an earlier version, which held one"),
    ],
)
def test_an_earlier_mean_is_not_forgotten(first: Weights, second: Weights, earlier: object) -> None:
    training = {"iterations": 7, "averaged_with": earlier}
    mean = average_weights(replace(first, metadata=replace(first.metadata, training=training)), second, 0.25)
    assert mean.metadata.training["averaged_with"] == [
        {"share": 0.5, "iterations": 8},
        {"share": 0.25, "iterations": 9},
    ]


def shortened(name: str) -> Callable[[Weights], Weights]:
    """Return a change that cuts the last row off a tensor."""

    def change(weights: Weights) -> Weights:
        return replace(weights, tensors={**weights.tensors, name: weights.tensors[name][:-1]})

    return change


def without(name: str) -> Callable[[Weights], Weights]:
    """Return a change that leaves a tensor out."""
    return lambda weights: replace(
        weights, tensors={key: value for key, value in weights.tensors.items() if key != name}
    )


@pytest.mark.parametrize("turned", [False, True], ids=["the second has none", "the first has none"])
def test_a_classifier_of_whole_pictures_that_only_one_has_stays_as_it_is(
    first: Weights, second: Weights, turned: bool
) -> None:
    whole = {name for name in first.tensors if name.startswith("backbone.whole.")}
    assert whole
    trained = replace(
        second, tensors={name: value for name, value in second.tensors.items() if name not in whole}
    )
    pair = (trained, first) if turned else (first, trained)
    mean = average_weights(*pair)
    both = average_weights(first, second)
    assert mean.tensors.keys() == both.tensors.keys()
    expected = {**both.tensors, **{name: first.tensors[name] for name in whole}}
    assert all(np.array_equal(value, expected[name]) for name, value in mean.tensors.items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda _: classifier_weights(), "their detection differs", id="no detector"),
        pytest.param(
            lambda weights: replace(weights, metadata=replace(weights.metadata, shared_maps=None)),
            "shared maps differs",
            id="regions read in another way",
        ),
        pytest.param(shortened("pooling.labels"), "'pooling.labels' has other shapes", id="other classes"),
        pytest.param(
            without("location_head.hidden.weight"),
            "only one of them has 'location_head.hidden.weight'",
            id="another head",
        ),
    ],
)
def test_other_networks_are_refused(
    first: Weights, second: Weights, change: Callable[[Weights], Weights], says: str
) -> None:
    with pytest.raises(CheckpointError, match=says):
        average_weights(first, change(second))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_nothing_and_all(first: Weights, second: Weights, share: float) -> None:
    with pytest.raises(ParameterError, match=r"must be a number in 0\.\.1"):
        average_weights(first, second, share)


def test_the_command_writes_what_every_other_reads(first: Weights, second: Weights, tmp_path: Path) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, weights in zip(paths, (first, second), strict=True):
        metadata = replace(weights.metadata, activation_ranges=None)
        write_file(path, metadata.as_json(), weights.tensors)
    target = tmp_path / "mean.safetensors"
    command.average(*paths, target, share=0.25)
    assert load_checkpoint(target).metadata.training["averaged_with"][-1]["share"] == 0.25
    wanted = average_weights(*map(read_weights, paths), 0.25)
    for name, value in read_weights(target).tensors.items():
        assert np.array_equal(value, wanted.tensors[name]), name
    with pytest.raises(DetectorError):  # a source is not written over
        command.average(*paths, paths[0])
    assert read_weights(paths[0]).metadata.training == {"iterations": 7}
