"""The torch modules that exported graphs are verified against give what the detector's own networks give."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detector.errors import ParameterError
from detector.inference.placement import place
from detector.inference.shared_maps import SharedMaps
from detector.models.checkpoint import as_checkpoint
from detector.models.exportable import ExportableClassifier, ExportableDetector, ExportableRegions
from detector.models.weights import Weights
from tests.detector.graphs.random_weights import (
    assert_close,
    classifier_weights,
    detector_weights,
    random_rows,
)

Outputs = dict[str, np.ndarray]


def _run(module: torch.nn.Module, *inputs: np.ndarray) -> Outputs:
    with torch.inference_mode():
        outputs = module.eval()(*map(torch.from_numpy, inputs))
    return {name: value.numpy() for name, value in outputs.items()}


def _engine(engine, rows) -> Outputs:
    return {name: np.asarray(value) for name, value in engine.start(rows).finish().items()}


def _ensemble(weights: Weights):
    return place(weights, engine="torch", device="cpu", precision="float32")


@pytest.mark.parametrize(
    ("multibox", "location"),
    [
        pytest.param(True, False, id="MultiBox, heads of earlier versions"),
        pytest.param(False, False, id="no MultiBox"),
        pytest.param(True, True, id="MultiBox, a location head"),
    ],
)
def test_a_detector_is_its_image_and_its_regions(multibox: bool, location: bool) -> None:
    """RoIAlign between them is the one of the arrays that detectors use."""
    weights = detector_weights(multibox=multibox, location=location)
    ensemble = _ensemble(weights)
    image = random_rows(1, 3, 96, 128)
    windows = np.array([[0, 0, 60, 50], [9, 20, 100, 90], [-20, 3, 30, 200]], np.float32)
    got = _run(ExportableDetector(as_checkpoint(weights)), image, windows)
    expected = _engine(ensemble.image_engine(0, "inception_4e", multibox=multibox), torch.from_numpy(image))
    engine = ensemble.region_engine([0], after="inception_4e")
    maps = torch.from_numpy(expected["maps"])
    regions = _engine(engine, engine.arrays.align(maps, windows, 14, 1 / 16))
    assert_close(got, expected | {name.removeprefix("0."): value for name, value in regions.items()})


def test_a_head_that_reads_other_images_is_left_out() -> None:
    weights = detector_weights(multibox=True)
    other = replace(weights, metadata=replace(weights.metadata, shared_maps=SharedMaps((96, 128))))
    got = _run(
        ExportableDetector(as_checkpoint(other)), random_rows(1, 3, 64, 64), np.zeros((0, 4), np.float32)
    )
    assert {name: len(value) for name, value in got.items()} == {
        "maps": 1, "probabilities": 0, "deltas": 0, "predicted_iou": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("heads", "names"),
    [
        ({}, {"0.probabilities", "0.deltas", "0.predicted_iou"}),
        ({"iou": False}, {"0.probabilities", "0.deltas"}),
        ({"boxes": False, "iou": False}, {"0.probabilities"}),
        ({"location": True}, {"0.probabilities", "0.deltas", "0.predicted_iou"}),
    ],
)
def test_regions_have_the_outputs_of_their_heads(heads: dict[str, bool], names: set[str]) -> None:
    weights = detector_weights(**heads, shared=False)
    rows = random_rows(1, 3, 224, 224)
    got = _run(ExportableRegions(as_checkpoint(weights)), rows)
    assert got.keys() == names
    assert_close(got, _engine(_ensemble(weights).region_engine([0]), torch.from_numpy(rows)))


@pytest.mark.parametrize("weights", [classifier_weights(), detector_weights(), detector_weights(whole=True)])
def test_classifiers(weights: Weights) -> None:
    rows = random_rows(2, 3, 64, 64)
    got = _run(ExportableClassifier(as_checkpoint(weights)), rows)
    assert_close(got, _engine(_ensemble(weights).classifier_engine(), torch.from_numpy(rows)))


@pytest.mark.parametrize(
    ("kind", "make", "says"),
    [
        pytest.param(
            ExportableDetector, classifier_weights, "no detector whose regions share maps", id="a classifier"
        ),
        pytest.param(
            ExportableDetector,
            lambda: detector_weights(shared=False),
            "no detector whose regions share maps",
            id="each region warped",
        ),
        pytest.param(
            ExportableClassifier,
            lambda: replace(
                detector_weights(), metadata=replace(detector_weights().metadata, classification=None)
            ),
            "has no classes of whole images",
            id="detection alone",
        ),
    ],
)
def test_what_weights_are_not_for(kind, make, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        kind(as_checkpoint(make()))
