"""Detectors and classifiers give the same whichever engine runs them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from detector.errors import CheckpointError, ParameterError
from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.ensemble import Ensemble
from detector.inference.graph_ensemble import GraphEnsemble
from detector.inference.loading import load_classifier, load_detector
from detector.inference.placement import GRAPH_ENGINES, place
from detector.io.decoding import RGB, load
from detector.models.weights import Weights, read_weights
from detector.pretrained import SHIPPED
from detector.structures.detections import Detections
from tests.detector.graphs.random_weights import (
    STAGES,
    assert_close,
    classifier_weights,
    detector_weights,
    random_rows,
    sharing_stages,
    with_ranges,
    with_tensors,
)

CAT = Path(__file__).parents[3] / "examples" / "cat.jpg"
GOOGLENET, TORCHVISION = STAGES


@cache
def _shipped() -> Weights:
    return read_weights(SHIPPED)


@cache
def _placed(engine: str) -> Ensemble:
    return place(_shipped(), engine=engine, device="cpu", precision="float32")


@cache
def _cat() -> RGB:
    return load(CAT)


@cache
def _by_torch(profile: str) -> Detections:
    return Detector(_placed("torch")).detect([_cat()], profile=profile)[0]


def _assert_same(got: Detections, expected: Detections) -> None:
    """Boxes within a tenth of a pixel, scores within a thousandth."""
    assert len(expected.scores) > 0
    assert got.labels.tolist() == expected.labels.tolist()
    assert np.abs(got.scores - expected.scores).max() < 1e-3
    assert np.abs(got.boxes - expected.boxes).max() < 0.1


@pytest.mark.parametrize(
    ("engine", "profile"),
    [
        ("openvino", "balanced"),
        ("onnxruntime", "fast"),
        pytest.param("openvino", "fast", marks=pytest.mark.exhaustive),
        pytest.param("onnxruntime", "balanced", marks=pytest.mark.exhaustive),
    ],
)
def test_a_picture_shows_the_same_to_all_engines(engine: str, profile: str) -> None:
    """With the shipped weights, whose probabilities are apart from each other."""
    (found,) = Detector(_placed(engine)).detect([_cat()], profile=profile)
    _assert_same(found, _by_torch(profile))


@pytest.mark.parametrize("engine", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.exhaustive)])
def test_what_a_picture_shows_on_the_whole(engine: str) -> None:
    for crops in (1, 10):
        ours, theirs = (
            Classifier(_placed(name)).probabilities(_cat(), crops=crops) for name in (engine, "torch")
        )
        assert np.abs(ours - theirs).max() < 1e-3


@pytest.fixture(scope="module")
def tiny() -> RGB:
    """A picture of noise and a bright rectangle."""
    image = np.random.default_rng(0).integers(20, 90, (70, 100, 3), dtype=np.uint8)
    image[20:50, 30:80] = (230, 200, 60)
    return image


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    ("profile", "tile", "shared"),
    [
        pytest.param("paper", None, True, id="each region warped, of weights that share maps"),
        pytest.param("fast", 64, True, id="tiles", marks=pytest.mark.exhaustive),
        pytest.param("fast", None, True, id="regions that share maps"),
        pytest.param("balanced", None, False, id="each region warped", marks=pytest.mark.exhaustive),
    ],
)
def test_other_ways_to_look(engine: str, profile: str, tile: int | None, shared: bool, tiny: RGB) -> None:
    weights = detector_weights(multibox=True, shared=shared)
    found = []
    for name in (engine, "torch"):
        ensemble = place(weights, engine=name, device="cpu", precision="float32")
        detector = Detector(ensemble, profile=profile, max_proposals=3)
        found += detector.detect([tiny], score_threshold=0, max_detections=5, tile=tile)
    _assert_same(*found)


def test_the_precision_of_a_gpu_is_torchs(tiny: RGB) -> None:
    with pytest.raises(ParameterError, match="openvino does not compute in float16"):
        place(classifier_weights(), engine="openvino", precision="float16")


@pytest.mark.parametrize("engine", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.exhaustive)])
def test_streams_give_what_one_gives(engine: str) -> None:
    """Three threads at once look with one detector and one classifier, memory given back in between."""
    ensemble = place(
        detector_weights(multibox=True), engine=engine, device="cpu", precision="float32", streams=2
    )
    detector, classifier = Detector(ensemble, profile="fast", max_proposals=3), Classifier(ensemble)
    images = [np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8) for seed in range(3)]

    def look(image: RGB) -> tuple[Detections, np.ndarray]:
        (found,) = detector.detect([image], score_threshold=0, max_detections=4)
        return found, classifier.probabilities(image)

    alone = list(map(look, images))
    with ThreadPoolExecutor(4) as threads:
        releasing = threads.submit(lambda: [ensemble.release_memory() for _ in range(5)])
        together = list(threads.map(look, images * 2))
        releasing.result()
    for got, expected in zip(together, alone * 2, strict=True):
        _assert_same(got[0], expected[0])
        assert np.abs(got[1] - expected[1]).max() < 1e-5
    assert ensemble.region_engine([0], after="inception_4e").streams == 2


def _ensemble(*weights: Weights, **settings: object) -> GraphEnsemble:
    return GraphEnsemble(weights, "onnxruntime", **{"precision": "float32", **settings})  # type: ignore[arg-type]


def test_the_first_members_are_an_ensemble_in_the_same_memory() -> None:
    three = _ensemble(*(detector_weights(seed=seed) for seed in (0, 1, 0)))
    one = three.first(1)
    assert [member.metadata.name for member in one.members] == ["random-0"]
    assert (one.engine, one.precision) == (three.engine, three.precision)
    assert one.region_engine([0]) is three.region_engine([0])
    assert one.classifier_engine() is not three.classifier_engine()
    assert three.region_engine([0, 1]) is three.region_engine([0, 1])
    assert three.region_engine([0]) is not three.region_engine([0], batch=4)
    rows = random_rows(1, 832, 14, 14)
    three_of = three.region_engine([0, 1, 2], after="inception_4e").start(rows).finish()
    one_of = one.region_engine([0], after="inception_4e").start(rows).finish()
    assert_close({key: three_of[key] for key in one_of}, one_of)
    assert_close({key.replace("2.", "0."): three_of[key] for key in three_of if key[0] == "2"}, one_of)


@pytest.mark.parametrize(
    ("stage", "groups"),
    [
        pytest.param("conv2", [[0, 1, 3], [2]], id="early"),
        pytest.param("inception_3a", [[0, 3], [1], [2]], id="where one begins to differ"),
        pytest.param("inception_5b", [[0, 3], [1], [2]], id="all"),
    ],
)
def test_members_are_grouped_by_what_they_have_in_common(stage: str, groups: list[list[int]]) -> None:
    first, other = detector_weights(), detector_weights(seed=1)
    members = (first, sharing_stages(first, other, 7), other, first)
    graphs = _ensemble(*members)
    assert graphs.alike_through(stage) == groups
    by_torch = place(list(members), engine="torch", device="cpu", precision="float32")
    assert by_torch.alike_through(stage) == groups
    with pytest.raises(ParameterError, match="the trunk has no stage 'conv9'"):
        graphs.alike_through("conv9")


def test_an_ensemble_is_averaged_as_torch_does(tiny: RGB) -> None:
    first = detector_weights(multibox=True)
    near = sharing_stages(first, detector_weights(seed=1), 7)
    found = []
    for engine in ("onnxruntime", "torch"):
        ensemble = place([first, near], engine=engine, device="cpu", precision="float32")
        detector = Detector(ensemble, profile="fast", max_proposals=4)
        found += detector.detect([tiny], score_threshold=0, max_detections=5)
    _assert_same(*found)


@pytest.mark.parametrize(
    ("make", "moves", "predicts", "detects"),
    [
        pytest.param(detector_weights, True, True, True, id="all"),
        pytest.param(lambda: detector_weights(boxes=False), False, True, True, id="no box head"),
        pytest.param(lambda: detector_weights(iou=False), True, False, True, id="no IoU head"),
        pytest.param(classifier_weights, False, False, False, id="a classifier"),
    ],
)
def test_members_say_what_they_can(make, moves: bool, predicts: bool, detects: bool) -> None:
    weights = make()
    (ours,) = _ensemble(weights).members
    (theirs,) = place(weights, engine="torch", device="cpu", precision="float32").members
    assert ours == theirs
    assert (ours.moves_boxes, ours.predicts_iou, ours.detects) == (moves, predicts, detects)


@pytest.mark.parametrize(
    ("numbers", "precision", "ranges", "chosen"),
    [
        pytest.param("", "float32", True, "float32", id="asked for"),
        pytest.param("int8", "auto", True, "int8", id="what an exported file computes in"),
        pytest.param("int8", "float32", True, "float32", id="an exported file in another precision"),
        pytest.param("float16", "auto", True, "auto", id="float16 is how it is stored"),
        pytest.param("", "int8", True, "int8", id="measured weights"),
    ],
)
def test_the_precision_of_an_ensemble(numbers: str, precision: str, ranges: bool, chosen: str) -> None:
    weights = replace(with_ranges(classifier_weights()), numbers=numbers)
    ensemble = _ensemble(weights, precision=precision)
    assert ensemble.precision == (chosen if chosen != "auto" else "float32")


def test_int8_wants_the_ranges_of_all_members() -> None:
    members = (with_ranges(classifier_weights()), classifier_weights(seed=1))
    with pytest.raises(ParameterError, match="`detector weights calibrate` does that"):
        _ensemble(*members, precision="int8")
    assert _ensemble(*map(with_ranges, members), precision="int8").precision == "int8"


@pytest.mark.parametrize("engine", GRAPH_ENGINES)
def test_weights_that_do_not_fit_are_refused_before_anything_runs(engine: str) -> None:
    broken = with_tensors(classifier_weights(), {"classifier.bias": np.zeros(5, np.float32)})
    with pytest.raises(CheckpointError, match=r"tensor classifier\.bias has the shape \[5\]"):
        place(broken, engine=engine, device="cpu")


@pytest.mark.parametrize("engine", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.exhaustive)])
def test_memory_is_given_back_and_taken_again(engine: str, tiny: RGB) -> None:
    """The classifier's graph is forgotten and compiled anew."""
    ensemble = place(detector_weights(multibox=True), engine=engine, device="cpu", precision="float32")
    detector, classifier = Detector(ensemble, profile="fast", max_proposals=3), Classifier(ensemble)
    looks = []
    for _ in range(2):
        (found,) = detector.detect([tiny], score_threshold=0, max_detections=4)
        looks.append((found, classifier.probabilities(tiny)))
        ensemble.release_memory()
    _assert_same(looks[1][0], looks[0][0])
    assert np.abs(looks[1][1] - looks[0][1]).max() < 1e-6


def test_loading_says_what_runs() -> None:
    detector = load_detector(engine="onnxruntime", device="cpu", precision="float32")
    assert (detector.ensemble.engine, detector.ensemble.device) == ("onnxruntime", "cpu")
    classifier = load_classifier(SHIPPED, engine="openvino", precision="float32")
    assert len(classifier.classes) == 1000
