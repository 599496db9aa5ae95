"""Explanations: the factors of scores, and where class activation maps lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.errors import ParameterError
from detector.graphs.exported import Task, exported_model
from detector.inference.detector import Detector
from detector.inference.ensemble import Ensemble
from detector.inference.executor import ForwardRequest, run_directly
from detector.inference.explanation import map_places
from detector.inference.loading import load_detector, load_ensemble
from detector.inference.placement import place
from detector.inference.scoring import Context, Scoring
from detector.inference.shared_maps import SharedMaps
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.weights import read_weights
from detector.pretrained import SHIPPED
from detector.structures.boxes import as_boxes
from detector.structures.detections import Detections
from detector.structures.explanation import FACTOR_NAMES
from detector.structures.proposals import Proposals, Source

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
BOXES = as_boxes([(10, 10, 60, 50), (0, 0, 100, 80), (30, 20, 44, 36)])


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (80, 100, 3), np.uint8)


@pytest.fixture(scope="module")
def shipped() -> Ensemble:
    return load_ensemble([SHIPPED], device="cpu", precision="float32")


@pytest.fixture(scope="module")
def cat() -> np.ndarray:
    return load(EXAMPLES / "cat.jpg")


def looking(checkpoint: Checkpoint, shared: bool) -> Checkpoint:
    """Return a checkpoint whose regions are cut out of maps of the image, or each warped."""
    settings = SharedMaps(scales=(96, 160)) if shared else None
    preprocessing = replace(checkpoint.metadata.preprocessing, short_side=160)
    metadata = replace(checkpoint.metadata, shared_maps=settings, preprocessing=preprocessing)
    return replace(checkpoint, metadata=metadata)


@pytest.mark.parametrize(
    ("engine", "precision", "shared", "atol"),
    [
        pytest.param("torch", "float32", True, 1e-5, id="torch"),
        pytest.param("torch", "float32", False, 1e-5, id="torch, warped"),
        pytest.param("openvino", "float32", True, 1e-5, id="openvino"),
        pytest.param("openvino", "float32", False, 1e-5, id="openvino, warped"),
        pytest.param("onnxruntime", "float32", True, 1e-5, id="onnxruntime"),
        pytest.param("torch", "bfloat16", True, 1e-5, id="torch: maps in 16 bits, heads in float32"),
    ],
)
def test_maps_give_the_probabilities_of_the_engine(
    multibox_path: Path,
    checkpoint_path: Path,
    pixels: np.ndarray,
    engine: str,
    precision: str,
    shared: bool,
    atol: float,
) -> None:
    """The softmax of the means of all classes' maps and their offsets is what the heads said of the region,
    of each member, and of the mirrored look too."""
    checkpoints = [looking(load_checkpoint(path), shared) for path in (multibox_path, checkpoint_path)]
    with torch.no_grad():
        checkpoints[1].backbone.classifier.weight *= 1.5  # or both would say the same
    detector = Detector(place(checkpoints, engine=engine, device="cpu", precision=precision))
    features = detector.steps(None).features
    view = detector.view(pixels)
    for mirrored in (False, True):
        predictions = detector.predict(view, BOXES, flip=mirrored)
        maps = features.last_maps(view, BOXES, mirrored=mirrored, executor=run_directly)
        assert len(maps) == len(predictions) == 2
        for index, (of_member, prediction) in enumerate(zip(maps, predictions, strict=True)):
            layer = detector.ensemble.class_layer(index)
            looks = []
            for look in of_member:
                assert look.shape == (3, 1024, 7, 7)
                logits = []
                for label in range(201):
                    activation, offset = layer.activation(look, label)
                    logits.append(activation.mean(axis=(1, 2)) + offset)
                looks.append(torch.from_numpy(np.stack(logits, axis=1)).softmax(dim=1).numpy())
            assert len(looks) == 1 + mirrored
            assert np.allclose(np.mean(looks, axis=0), prediction.probabilities, atol=atol)


PLAIN = Scoring()
ALL = Scoring(fit_power=0.5, objectness_power=1.5, context_power=0.25, score_power=0.32)
SCORINGS = [
    ("the probability alone", PLAIN, "fast", ["probability"]),
    ("predicted IoU", replace(PLAIN, fit_power=0.7), "fast", ["probability", "predicted_iou"]),
    ("objectness", replace(PLAIN, objectness_power=2), "fast", ["probability", "objectness"]),
    ("objectness of searched boxes, which have none of their own", replace(PLAIN, objectness_power=1),
     "balanced", ["probability", "objectness"]),
    ("objectness where no box has any", ALL, "search", list(FACTOR_NAMES)),
    ("context", replace(PLAIN, context_power=1), "fast", ["probability", "context"]),
    ("context of regions", replace(PLAIN, context_power=1, context=Context.REGIONS), "fast",
     ["probability", "context"]),
    ("all, and a power over the product", ALL, "fast", list(FACTOR_NAMES)),
    ("each region warped", ALL, "paper", list(FACTOR_NAMES)),
    ("two looks", replace(ALL, flip=True), "fast", list(FACTOR_NAMES)),
    ("voting, which moves boxes and no scores", replace(ALL, vote_iou=0.4), "fast", list(FACTOR_NAMES)),
    ("boxes that stay", replace(ALL, box_regression=False), "fast", list(FACTOR_NAMES)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("scoring", "profile", "names"), [row[1:] for row in SCORINGS], ids=[row[0] for row in SCORINGS]
)
def test_factors_multiply_to_the_score(
    shipped: Ensemble, cat: np.ndarray, scoring: Scoring, profile: str, names: list[str]
) -> None:
    detector = Detector(shipped, scoring=scoring, profile=profile, max_proposals=12)
    found = detector.detect(cat, score_threshold=0, max_detections=4, explain=3)
    assert len(found) == 4
    for detection in found[:3]:
        explanation = detection.explanation
        assert explanation is not None
        assert [factor.name for factor in explanation.factors] == names
        assert explanation.score == pytest.approx(detection.score, rel=1e-5)
        assert explanation.factors[0].power == scoring.score_power
    assert found[3].explanation is None


def test_an_ensemble_is_explained_by_its_mean(multibox_path: Path, checkpoint_path: Path) -> None:
    """A network beside itself says what it says alone; one with another classifier moves the mean."""
    pixels = np.random.default_rng(4).integers(0, 256, (80, 100, 3), np.uint8)
    first, second = (load_checkpoint(path) for path in (multibox_path, checkpoint_path))
    alone = Detector(first, device="cpu", max_proposals=5, profile="search")
    twice = Detector([first, second], device="cpu", max_proposals=5, profile="search")
    with torch.no_grad():
        second.backbone.classifier.weight *= 3
    moved = Detector([first, second], device="cpu", max_proposals=5, profile="search")
    maps = []
    for detector in (alone, twice, moved):
        [found] = detector.detect(pixels, score_threshold=0, explain=1, max_detections=1)
        assert found.explanation is not None
        assert found.explanation.score == pytest.approx(found.score, rel=1e-5)
        maps.append(found.explanation.activation)
    assert np.allclose(maps[0], maps[1], atol=1e-4)
    assert not np.allclose(maps[0], maps[2], atol=1e-4)


@pytest.mark.parametrize(
    ("numbers", "engine"), [("int8", "openvino"), ("int8", "onnxruntime"), ("float32", "torch")]
)
def test_exported_files_are_explained_too(cat: np.ndarray, tmp_path: Path, numbers: str, engine: str) -> None:
    """They are read as weights, so graphs that end before the heads are made of them as of a checkpoint."""
    import onnx

    path = tmp_path / "exported.onnx"
    onnx.save(exported_model(read_weights(SHIPPED), Task.DETECT, numbers), path)
    found = load_detector(path, engine=engine, device="cpu", profile="fast").detect(cat, explain=1)
    [explanation] = found.explanations
    assert explanation is not None
    assert explanation.score == pytest.approx(found[0].score, rel=1e-5)
    x, y = centre_of_mass(explanation.activation, explanation.region)
    x1, y1, x2, y2 = found[0].box
    assert x1 + 0.25 * (x2 - x1) < x < x2 - 0.25 * (x2 - x1)
    assert y1 + 0.25 * (y2 - y1) < y < y2 - 0.25 * (y2 - y1)


PLACES = [
    ("left", (0.25, 0.5)),
    ("right", (0.75, 0.5)),
    ("above", (0.5, 0.25)),
    ("below", (0.5, 0.75)),
]


@pytest.mark.parametrize("profile", ["balanced", "paper"])
@pytest.mark.parametrize(("place", "centre"), PLACES, ids=[row[0] for row in PLACES])
def test_heat_lies_where_the_object_is(
    shipped: Ensemble, cat: np.ndarray, profile: str, place: str, centre: tuple[float, float]
) -> None:
    """A cat is pasted into a grey picture; one region is asked, the whole picture, of which the cat is a
    quarter: so only the map can tell where it is."""
    import cv2

    side = 400
    picture = np.full((side, side, 3), 128, np.uint8)
    small = cv2.resize(cat, (160, 160), interpolation=cv2.INTER_AREA)
    left, top = (round(at * side) - 80 for at in centre)
    picture[top : top + 160, left : left + 160] = small
    detector = Detector(shipped)
    view = detector.view(picture, profile)
    proposals = Proposals.of(as_boxes([(0, 0, side, side)]), Source.MULTIBOX)
    regions = detector.score(view, proposals, profile)
    label = detector.classes.names.index("domestic cat")
    asked = Detections(regions.boxes, np.array([label]), np.ones(1, np.float32), regions=np.array([0]))
    explained = detector.explain(view, regions, asked, 1, profile)
    [explanation] = explained.explanations
    assert explanation is not None
    x, y = centre_of_mass(explanation.activation, explanation.region)
    assert abs(x / side - centre[0]) < 0.1
    assert abs(y / side - centre[1]) < 0.1


def centre_of_mass(activation: np.ndarray, region: tuple[float, float, float, float]) -> tuple[float, float]:
    """Return the centre of the evidence above half its greatest, in pixels of the image."""
    height, width = activation.shape
    heat = np.maximum(activation - activation.max() / 2, 0)
    across, down = (np.arange(count) + 0.5 for count in (width, height))
    x1, y1, x2, y2 = region
    x = (heat.sum(axis=0) * across).sum() / heat.sum() / width
    y = (heat.sum(axis=1) * down).sum() / heat.sum() / height
    return x1 + x * (x2 - x1), y1 + y * (y2 - y1)


@pytest.mark.parametrize("cell", [2, 3, 4])
def test_cells_lie_where_they_look(untrained: Checkpoint, cell: int) -> None:
    """The pixels that move a cell most lie around its place: measured by the gradient."""
    torch.manual_seed(0)
    crops = torch.randn(2, 3, 224, 224, requires_grad=True)
    untrained.backbone.features(crops)[:, :, cell, cell].sum().backward()
    assert crops.grad is not None
    weight = (crops.grad**2).sum(dim=(0, 1)).numpy()
    centre = [float((weight.sum(axis=axis) * (np.arange(224) + 0.5)).sum() / weight.sum()) for axis in (0, 1)]
    [[x1, y1, x2, y2]] = map_places(as_boxes([(0, 0, 224, 224)]), "googlenet", (7, 7))
    expected = x1 + (cell + 0.5) / 7 * (x2 - x1), y1 + (cell + 0.5) / 7 * (y2 - y1)
    assert centre == pytest.approx(expected, abs=5)  # the drift is 14.5


def test_the_mean_of_two_looks_does_not_drift_sideways(shipped: Ensemble, cat: np.ndarray) -> None:
    """The map of the mirrored picture is the mirrored map, at the mirrored place."""
    detector = Detector(shipped, scoring=replace(Scoring(), flip=True))
    width = cat.shape[1]
    proposals = [as_boxes([box]) for box in ((40, 10, 300, 280), (width - 300, 10, width - 40, 280))]
    explanations = []
    for picture, boxes in zip((cat, np.ascontiguousarray(cat[:, ::-1])), proposals, strict=True):
        regions = detector.score(picture, Proposals.of(boxes, Source.MULTIBOX))
        found = detector.select(regions, score_threshold=0, max_detections=1)
        explanations += detector.explain(picture, regions, found, 1).explanations
    plain, turned = explanations
    assert plain is not None
    assert turned is not None
    assert np.allclose(plain.activation, turned.activation[:, ::-1], atol=0.05 * plain.activation.max())
    assert plain.region[0] == pytest.approx(width - turned.region[2], abs=0.1)


def test_nothing_of_it_runs_unless_it_is_asked_for(shipped: Ensemble, cat: np.ndarray) -> None:
    detector = Detector(shipped)
    rows: list[int] = []

    def executor(request: ForwardRequest) -> dict:
        rows.append(request.rows)
        return run_directly(request)

    plain = detector.finder(max_detections=3)(cat, executor=executor)
    usual, _ = list(rows), rows.clear()
    explained = detector.finder(max_detections=3, explain=2)(cat, executor=executor)
    assert plain.explanations == ()
    assert rows == [*usual, min(2, len(explained))]
    assert np.array_equal(plain.boxes, explained.boxes)
    assert np.array_equal(plain.scores, explained.scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"explain": -1}, "0..20", id="below nothing"),
        pytest.param({"explain": 21}, "0..20", id="more than are looked at again"),
        pytest.param({"explain": True}, "whole number", id="a switch is no number"),
        pytest.param({"explain": 1, "tile": 640}, "leave out tile", id="tiles, whose regions are merged"),
    ],
)
def test_what_cannot_be_explained_is_told(shipped: Ensemble, options: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Detector(shipped).finder(**options)


def test_detections_of_other_origin_are_refused(shipped: Ensemble, cat: np.ndarray) -> None:
    """They do not know their regions."""
    detector = Detector(shipped)
    regions = detector.score(cat, Proposals.of(as_boxes([(40, 10, 300, 280)]), Source.MULTIBOX))
    read = Detections(as_boxes([(40, 10, 300, 280)]), np.array([0]), np.ones(1, np.float32))
    with pytest.raises(ParameterError, match="do not know their regions"):
        detector.explain(cat, regions, read, 1)


def test_nothing_found_is_nothing_explained(shipped: Ensemble, cat: np.ndarray) -> None:
    found = Detector(shipped).detect(cat, score_threshold=1, explain=3)
    assert len(found) == 0
    assert found.explanations == ()
