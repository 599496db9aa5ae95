"""The graphs of networks give what the torch networks of the same weights give."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from detector.errors import CheckpointError, ParameterError
from detector.graphs.networks import (
    GraphOptions,
    check_weights,
    classifier_graph,
    detector_graph,
    image_graph,
    region_graph,
    same_stages,
    trunk_graph,
)
from detector.graphs.stages import Inception, trunk_of
from detector.inference.graph_engine import compile_graph, run_model
from detector.inference.shared_maps import SharedMaps
from detector.inference.torch_ensemble import TorchEnsemble
from detector.models.checkpoint import as_checkpoint, load_checkpoint
from detector.models.checkpoint_file import write_file
from detector.models.exportable import ExportableDetector
from detector.models.weights import Weights, read_weights
from tests.detector.graphs.random_weights import (
    CLASSIFICATION,
    STAGES,
    assert_close,
    by_engines,
    channels_last,
    classifier_weights,
    detector_weights,
    random_rows,
    sharing_stages,
    stored_as,
    with_tensors,
)

ENGINES = ("onnxruntime", "openvino")
LRN = {"onnxruntime": False, "openvino": True}
"""How response normalisation is written for an engine, as
:class:`detector.inference.graph_ensemble.GraphEnsemble` has it."""

Outputs = dict[str, np.ndarray]


@cache
def _torch(members: tuple[Weights, ...]) -> TorchEnsemble:
    return TorchEnsemble.place(list(map(as_checkpoint, members)), device="cpu", precision="float32")


def _by_torch(engine: Any, rows: np.ndarray) -> Outputs:
    outputs = engine.start(torch.from_numpy(rows)).finish()
    return {name: np.asarray(value) for name, value in outputs.items()}


def _by(engine: str, model: onnx.ModelProto, rows: np.ndarray) -> Outputs:
    onnx.checker.check_model(model)
    return compile_graph(engine, model, precision="float32", streams=None).run(rows)


def _members(*weights: Weights) -> tuple[Weights, ...]:
    return weights


GOOGLENET, TORCHVISION = STAGES


def _near(stages: int) -> tuple[Weights, ...]:
    """Two detectors that have so many first stages in common."""
    first = detector_weights()
    return first, sharing_stages(first, detector_weights(seed=1), stages)


def _located(stages: int) -> tuple[Weights, ...]:
    """Two detectors with location heads that have so many first stages in common."""
    first = detector_weights(location=True)
    return first, sharing_stages(first, detector_weights(seed=1, location=True), stages)


def _old_and_new(stages: int) -> tuple[Weights, ...]:
    first = detector_weights(location=True)
    return first, sharing_stages(first, detector_weights(seed=1), stages)


REGIONS: list[tuple[str, Callable[[], tuple[Weights, ...]], str | None, int]] = [
    ("all heads, crops", lambda: _members(detector_weights()), None, 2),
    ("all heads, maps", lambda: _members(detector_weights()), "inception_4e", 5),
    ("one region", lambda: _members(detector_weights()), "inception_4e", 1),
    ("maps of a maximum", lambda: _members(detector_weights()), "pool4", 2),
    ("maps of a normalisation", lambda: _members(detector_weights()), "norm2", 1),
    ("the last maps", lambda: _members(detector_weights()), "inception_5b", 3),
    ("no box head", lambda: _members(detector_weights(boxes=False)), "inception_4e", 2),
    ("no IoU head", lambda: _members(detector_weights(iou=False)), "inception_4e", 2),
    ("neither", lambda: _members(detector_weights(boxes=False, iou=False)), "inception_4e", 2),
    (
        "a class without sub-classes",
        lambda: _members(detector_weights(labels=(0, 0, -1, -1, 3))),
        "inception_4e",
        2,
    ),
    (
        "background without sub-classes",
        lambda: _members(detector_weights(labels=(2, 1, 0))),
        "inception_4e",
        2,
    ),
    ("a location head, crops", lambda: _members(detector_weights(location=True)), None, 2),
    ("a location head, maps", lambda: _members(detector_weights(location=True)), "inception_4e", 3),
    ("a location head reads what is given", lambda: _members(detector_weights(location=True)), "pool4", 2),
    (
        "a location head, batch normalisation, crops",
        lambda: _members(detector_weights(TORCHVISION, location=True)),
        None,
        1,
    ),
    (
        "a location head, batch normalisation, maps",
        lambda: _members(detector_weights(TORCHVISION, location=True)),
        "inception4e",
        2,
    ),
    ("a location head and the heads of earlier versions", lambda: _old_and_new(0), "inception_4e", 2),
    ("the same, with a trunk in common", lambda: _old_and_new(18), "inception_4e", 2),
    ("two location heads whose last stages differ", lambda: _located(16), None, 1),
    ("two location heads whose last stage differs", lambda: _located(17), "inception_4e", 2),
    ("two location heads on one trunk", lambda: _located(18), "inception_4e", 2),
    ("two location heads, all stages but the first differ", lambda: _located(1), "norm2", 1),
    ("batch normalisation, crops", lambda: _members(detector_weights(TORCHVISION)), None, 1),
    ("batch normalisation, maps", lambda: _members(detector_weights(TORCHVISION)), "inception4e", 3),
    (
        "two that have nothing in common",
        lambda: _members(*(detector_weights(seed=i) for i in (0, 1))),
        None,
        1,
    ),
    (
        "two with common first stages, crops",
        lambda: _members(
            detector_weights(), sharing_stages(detector_weights(), detector_weights(seed=1), 15)
        ),
        None,
        1,
    ),
    (
        "two with more in common than is cut off",
        lambda: _members(
            detector_weights(), sharing_stages(detector_weights(), detector_weights(seed=1), 17)
        ),
        "inception_4e",
        2,
    ),
    (
        "two with less in common than is cut off",
        lambda: _near(6),
        "inception_4e",
        2,
    ),
    (
        "two with other heads and labels",
        lambda: _members(
            detector_weights(), detector_weights(seed=1, boxes=False, iou=False, labels=(3, 2, 1, 0))
        ),
        "inception_4e",
        2,
    ),
    ("the same twice", lambda: _members(detector_weights(), detector_weights()), "inception_4e", 2),
    (
        "two architectures",
        lambda: _members(detector_weights(shared=False), detector_weights(TORCHVISION, shared=False)),
        None,
        1,
    ),
]


RARE = {
    "one region",
    "maps of a maximum",
    "the last maps",
    "no box head",
    "no IoU head",
    "a location head, batch normalisation, crops",
    "two location heads, all stages but the first differ",
    "background without sub-classes",
    "batch normalisation, crops",
    "two that have nothing in common",
    "two with more in common than is cut off",
    "the same twice",
}
"""Cases that others imply: exhaustive with both engines."""


@pytest.mark.parametrize(
    ("engine", "make", "after", "count"),
    [
        *by_engines(*(pytest.param(*case[1:], id=case[0]) for case in REGIONS if case[0] not in RARE)),
        *(
            pytest.param(engine, *case[1:], id=f"{case[0]}-{engine}", marks=pytest.mark.exhaustive)
            for case in REGIONS
            for engine in ENGINES
            if case[0] in RARE
        ),
    ],
)
def test_outputs_of_regions_are_those_of_torch(
    engine: str, make: Callable[[], tuple[Weights, ...]], after: str | None, count: int
) -> None:
    members = make()
    rows = _rows(members[0], after, count)
    expected = _by_torch(_torch(members).region_engine(range(len(members)), after=after), rows)
    model = region_graph(members, after, GraphOptions(native_lrn=LRN[engine]))
    assert_close(_by(engine, model, rows if after is None else channels_last(rows)), expected)


def _rows(weights: Weights, after: str | None, count: int) -> np.ndarray:
    """Crops, or maps of the sides that a stage has for them."""
    if after is None:
        return random_rows(count, 3, 224, 224)
    channels = {"norm2": 192, "inception_3b": 480, "inception_5b": 1024}.get(after, 832)
    side = {"norm2": 56, "inception_3b": 28, "pool4": 7, "inception_5b": 7}.get(after, 14)
    return random_rows(count, channels, side, side)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param("inception_5a", id="one of the two stages is left"),
        pytest.param("inception_5b", id="none is left"),
    ],
)
def test_a_location_head_needs_the_maps_that_it_reads(after: str) -> None:
    weights = detector_weights(location=True)
    with pytest.raises(ParameterError, match="before the last two stages: begin with an earlier"):
        region_graph([weights], after)
    with pytest.raises(ParameterError, match="before the last two stages: begin with an earlier"):
        _torch((weights,)).region_engine([0], after=after)


def test_common_stages_are_in_the_graph_once() -> None:
    first, other = detector_weights(), detector_weights(seed=1)
    assert same_stages([first, other], trunk_of(GOOGLENET)) == 0
    near = sharing_stages(first, other, 15)
    assert same_stages([first, near], trunk_of(GOOGLENET)) == 16, "a maximum is the same in all"
    assert same_stages([first, detector_weights(TORCHVISION)], trunk_of(GOOGLENET)) == 0
    alone, both, apart = (
        len(region_graph(members, None).SerializeToString())
        for members in ([first], [first, near], [first, other])
    )
    assert alone < both < 1.7 * alone
    assert apart > 1.9 * alone


@pytest.mark.parametrize(
    ("engine", "architecture", "stage", "multibox", "sides"),
    by_engines(
        pytest.param(GOOGLENET, 1, True, (96, 160), id="maps and MultiBox"),
        pytest.param(GOOGLENET, 1, True, (80, 48), id="odd numbers of cells"),
        pytest.param(GOOGLENET, 1, False, (112, 64), id="maps alone"),
        pytest.param(GOOGLENET, None, True, (64, 80), id="MultiBox alone"),
        pytest.param(GOOGLENET, 0, True, (64, 64), id="maps of an earlier stage than MultiBox reads"),
        pytest.param(TORCHVISION, 1, True, (48, 96), id="batch normalisation"),
    ),
)
def test_whole_images(
    engine: str, architecture: str, stage: int | None, multibox: bool, sides: tuple[int, int]
) -> None:
    weights = detector_weights(architecture, multibox=True)
    name = STAGES[architecture][stage] if stage is not None else None
    image = random_rows(1, 3, *sides)
    expected = _by_torch(_torch((weights,)).image_engine(0, name, multibox=multibox), image)
    if "maps" in expected:
        expected["maps"] = channels_last(np.asarray(expected["maps"]))
    model = image_graph(weights, name, multibox=multibox, options=GraphOptions(native_lrn=LRN[engine]))
    names = ["maps"] * (stage is not None) + ["objectness", "offsets"] * multibox
    assert_close(_by(engine, model, image), expected, names=names)


def test_several_images_are_looked_at_at_once() -> None:
    """No engine does so today; the graph's batch is free all the same."""
    weights = detector_weights(multibox=True)
    model = image_graph(weights, "inception_4e", multibox=True)
    images = random_rows(3, 3, 64, 64)
    whole = _by("onnxruntime", model, images)
    for index in range(3):
        assert_close({name: value[index : index + 1] for name, value in whole.items()},
                     _by("onnxruntime", model, images[index : index + 1]), 1e-5)  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "make"),
    by_engines(
        pytest.param(lambda: [classifier_weights()], id="a classifier"),
        pytest.param(lambda: [detector_weights()], id="the first sub-classes of a detector"),
        pytest.param(lambda: [detector_weights(whole=True)], id="a detector's second classifier"),
        pytest.param(lambda: [classifier_weights(TORCHVISION)], id="batch normalisation"),
        pytest.param(lambda: [classifier_weights(), detector_weights(whole=True)], id="of two kinds"),
        pytest.param(lambda: [classifier_weights(), classifier_weights(TORCHVISION)], id="two architectures"),
        pytest.param(
            lambda: [
                classifier_weights(),
                sharing_stages(classifier_weights(), classifier_weights(seed=1), 12),
            ],
            id="common first stages",
        ),
    ),
)
def test_classifiers(engine: str, make: Callable[[], list[Weights]]) -> None:
    members = make()
    rows = random_rows(2, 3, 64, 64)
    expected = _by_torch(_torch(tuple(members)).classifier_engine(), rows)
    got = _by(engine, classifier_graph(members, GraphOptions(native_lrn=LRN[engine])), rows)
    assert_close(got, expected)
    assert got["0.probabilities"].shape == (2, len(CLASSIFICATION))


@pytest.mark.parametrize("engine", ENGINES)
def test_response_normalisation_is_the_same_either_way(engine: str) -> None:
    """The way that the other engine is faster at."""
    weights, rows = classifier_weights(), random_rows(1, 3, 64, 64, spread=200)
    models = [classifier_graph([weights], GraphOptions(native_lrn=native)) for native in (True, False)]
    kinds = [{node.op_type for node in model.graph.node} for model in models]
    assert ["LRN" in kind for kind in kinds] == [True, False]
    native, banded = (_by(engine, model, rows) for model in models)
    assert_close(banded, native, 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_other_types_are_taken(dtype: str) -> None:
    """What a checkpoint stores its numbers as is not what is computed in."""
    import ml_dtypes

    stored = stored_as(detector_weights(multibox=True), getattr(ml_dtypes, dtype, dtype))
    check_weights(stored)
    rows = random_rows(1, 832, 14, 14)
    expected = _by_torch(_torch((stored,)).region_engine([0], after="inception_4e"), rows)
    model = region_graph([stored], "inception_4e")
    assert_close(_by("onnxruntime", model, channels_last(rows)), expected)


@pytest.mark.parametrize(
    ("engine", "location"),
    by_engines(pytest.param(False, id="heads of earlier versions"), pytest.param(True, id="a location head")),
)
def test_a_whole_detector_is_one_graph(engine: str, location: bool) -> None:
    """Of any number of windows, none among them, and of any sides."""
    weights = detector_weights(multibox=True, location=location)
    module = ExportableDetector(as_checkpoint(weights)).eval()
    model = detector_graph(weights)
    onnx.checker.check_model(model)
    run = run_model(engine, model)
    names = ["maps", "objectness", "offsets", "probabilities", "deltas", "predicted_iou"]
    rng = np.random.default_rng(0)
    for regions, sides in ((3, (96, 128)), (0, (64, 80)), (1, (96, 64))):
        corners = rng.uniform(-20, 60, (regions, 2))
        ends = corners + rng.uniform(5, 90, (regions, 2))
        windows = np.concatenate([corners, ends], axis=1).astype(np.float32)
        image = random_rows(1, 3, *sides)
        with torch.inference_mode():
            outputs = module(torch.from_numpy(image), torch.from_numpy(windows))
        expected = {name: value.numpy() for name, value in outputs.items()}
        assert_close(run({"image": image, "windows": windows}), expected, names=names)


def test_a_head_that_reads_other_images_is_no_part_of_the_detectors_graph() -> None:
    weights = detector_weights(multibox=True)
    other = replace(weights, metadata=replace(weights.metadata, shared_maps=SharedMaps((96, 128))))
    outputs = {entry.name for entry in detector_graph(other).graph.output}
    assert outputs == {"maps", "probabilities", "deltas", "predicted_iou"}


def test_the_trunks_graph_gives_what_ranges_are_measured_of() -> None:
    weights, rows = classifier_weights(), random_rows(1, 3, 64, 96)
    got = run_model("onnxruntime", trunk_graph(weights))({"rows": rows})
    expected = {}
    x = torch.from_numpy(rows)
    parts = {stage.name: stage for stage in trunk_of(GOOGLENET)}
    with torch.inference_mode():
        for name, module in as_checkpoint(weights).backbone.features.named_children():
            x = module(x)
            if "pool" not in name:
                expected[f"features.{name}"] = x.numpy()
    inner = {key for key in got if key.count(".") > 1}
    assert_close({key: value for key, value in got.items() if key not in inner}, expected)
    for name, stage in parts.items():
        if isinstance(stage, Inception):
            ends = [got[f"features.{name}.{branch[-1].name}"] for branch in stage.branches]
            assert np.array_equal(np.concatenate(ends, axis=1), got[f"features.{name}"]), name


Damage = Callable[[Weights], Weights]


def _lacking(*names: str) -> Damage:
    return lambda weights: with_tensors(weights, dict.fromkeys(names))


def _having(**tensors: Any) -> Damage:
    return lambda weights: with_tensors(
        weights, {name.replace("__", "."): value for name, value in tensors.items()}
    )


def _filled(name: str, value: float) -> Damage:
    def damage(weights: Weights) -> Weights:
        tensor = weights.tensors[name].copy()
        tensor.reshape(-1)[-1] = value
        return with_tensors(weights, {name: tensor})

    return damage


def _stating(**changes: Any) -> Damage:
    return lambda weights: replace(weights, metadata=replace(weights.metadata, **changes))


FAULTS: list[tuple[str, Damage, str]] = [
    ("a tensor lacks", _lacking("backbone.classifier.bias"), "lacks tensors backbone.classifier.bias"),
    (
        "of a stage",
        _lacking("backbone.features.inception_4e.branch5.1.conv.weight"),
        "lacks tensors backbone.features.inception_4e.branch5.1.conv.weight",
    ),
    ("half of a head lacks", _lacking("box_head.regress.weight"), "lacks tensors box_head.regress.weight"),
    ("a box head without scale", _lacking("box_head.scale"), "lacks tensors box_head.scale"),
    ("MultiBox lacks a grid", _lacking("multibox.predict.2.bias"), "lacks tensors multibox.predict.2.bias"),
    ("unknown", _having(extra=np.zeros(3, np.float32)), "has unknown tensors extra"),
    (
        "many unknown ones",
        _having(**{f"extra{index}": np.zeros(1, np.float32) for index in range(6)}),
        "has unknown tensors extra0, extra1, extra2, extra3, ...",
    ),
    (
        "another shape",
        _having(backbone__classifier__bias=np.zeros(7, np.float32)),
        "tensor backbone.classifier.bias has the shape [7] where [8] is needed",
    ),
    (
        "filters of another size",
        _having(backbone__features__conv2__conv__weight=np.zeros((192, 64, 5, 5), np.float32)),
        "tensor backbone.features.conv2.conv.weight has the shape [192, 64, 5, 5] where [192, 64, 3, 3] is",
    ),
    (
        "whole numbers as weights",
        _having(backbone__classifier__bias=np.zeros(8, np.int32)),
        "tensor 'backbone.classifier.bias' is of type int32, where numbers with a fraction are needed",
    ),
    (
        "complex numbers",
        _having(box_head__scale=np.zeros(4, np.complex64)),
        "tensor 'box_head.scale' is of type complex64, where numbers with a fraction are needed",
    ),
    (
        "no number",
        _filled("fit_head.predict.bias", np.nan),
        "tensor 'fit_head.predict.bias' holds values that",
    ),
    (
        "endless",
        _filled("multibox.mix.conv.weight", np.inf),
        "'multibox.mix.conv.weight' holds values that are",
    ),
    (
        "unknown architecture",
        _stating(architecture="vgg16"),
        "is of architecture 'vgg16'; this version knows",
    ),
    (
        "the other architecture",
        _stating(architecture="torchvision-googlenet"),
        "does not fit torchvision-googlenet: it lacks tensors",
    ),
    (
        "an unknown stage of shared maps",
        _stating(shared_maps=SharedMaps((64, 96), stage="inception_9z")),
        "the trunk has no stage 'inception_9z', only conv1, pool1",
    ),
    (
        "a second classifier and no classes of it",
        lambda weights: _stating(classification=None)(detector_weights(whole=True)),
        "has a classifier of whole images, and names no classes of them",
    ),
    (
        "a head for a stage that there is not",
        lambda weights: _stating(
            multibox=replace(weights.metadata.multibox, stages=("inception_3b", "inception_9z"))
        )(weights),
        "the trunk has no stage 'inception_9z'",
    ),
    (
        "a head for maps of other channels",
        lambda weights: _stating(
            multibox=replace(weights.metadata.multibox, stages=("inception_3a", "inception_4e"))
        )(weights),
        "does not fit googlenet",
    ),
    (
        "regions of more cells than the heads read",
        _stating(shared_maps=SharedMaps((64, 96), 2.0, 16, "inception_4e", 20)),
        "does not fit googlenet",
    ),
    (
        "crops larger than the heads read",
        lambda weights: _stating(preprocessing=replace(weights.metadata.preprocessing, size=320))(weights),
        "does not fit googlenet",
    ),
]


LOCATION_FAULTS: list[tuple[str, Damage, str]] = [
    ("no scale", _lacking("location_head.scale"), "lacks tensors location_head.scale"),
    (
        "no first layer",
        _lacking("location_head.reduce.weight", "location_head.reduce.bias"),
        "lacks tensors location_head.reduce.bias, location_head.reduce.weight",
    ),
    ("half of a layer", _lacking("location_head.hidden.bias"), "lacks tensors location_head.hidden.bias"),
    (
        "offsets without the IoU",
        _having(location_head__locate__weight=np.zeros((4, 256), np.float32)),
        "tensor location_head.locate.weight has the shape [4, 256] where [5, 256] is needed",
    ),
    (
        "a head for the last maps",
        _having(location_head__reduce__weight=np.zeros((128, 1024, 1, 1), np.float32)),
        "tensor location_head.reduce.weight has the shape [128, 1024, 1, 1] where [128, 832, 1, 1] is needed",
    ),
    (
        "a tensor too many",
        _having(location_head__more=np.zeros(4, np.float32)),
        "has unknown tensors location_head.more",
    ),
    (
        "no number",
        _filled("location_head.locate.bias", np.nan),
        "tensor 'location_head.locate.bias' holds values that",
    ),
    (
        "whole numbers",
        _having(location_head__scale=np.ones(4, np.int32)),
        "tensor 'location_head.scale' is of type int32, where numbers with a fraction are needed",
    ),
    (
        "regions of more cells than it reads",
        _stating(shared_maps=SharedMaps((64, 96), 2.0, 16, "inception_4e", 20)),
        "does not fit googlenet",
    ),
    (
        "crops larger than it reads",
        lambda weights: _stating(preprocessing=replace(weights.metadata.preprocessing, size=320))(weights),
        "does not fit googlenet",
    ),
]


@pytest.mark.parametrize(
    ("location", "damage", "says"),
    [
        *(pytest.param(False, *fault[1:], id=fault[0]) for fault in FAULTS),
        *(pytest.param(True, *fault[1:], id=f"location head: {fault[0]}") for fault in LOCATION_FAULTS),
    ],
)
def test_faults_of_weights_are_named_as_torch_names_them(location: bool, damage: Damage, says: str) -> None:
    weights = damage(detector_weights(multibox=True, location=location))
    with pytest.raises(CheckpointError) as by_torch:
        as_checkpoint(weights)
    with pytest.raises(CheckpointError) as caught:
        check_weights(weights)
    assert says in str(caught.value)
    assert says in str(by_torch.value)


@pytest.mark.parametrize(
    ("location", "damage"),
    [
        (False, _lacking("box_head.scale")),
        (False, _filled("box_head.scale", np.nan)),
        (False, _stating(architecture="vgg16")),
        (True, _lacking("location_head.scale")),
        (True, _having(location_head__locate__bias=np.zeros(4, np.float32))),
    ],
)
def test_a_file_is_refused_in_the_same_words(location: bool, damage: Damage, tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    weights = damage(detector_weights(location=location))
    write_file(path, weights.metadata.as_json(), weights.tensors)
    with pytest.raises(CheckpointError) as by_torch:
        load_checkpoint(path)
    with pytest.raises(CheckpointError) as caught:
        check_weights(read_weights(path))
    assert str(caught.value) == str(by_torch.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("says", "change"),
    [
        ("whole images", _stating(detection=None, classification=None)),
    ],
)
def test_weights_without_classes_are_refused(says: str, change: Damage) -> None:
    with pytest.raises(CheckpointError, match="names neither classification nor detection classes"):
        check_weights(change(classifier_weights()))


@pytest.mark.parametrize(
    "make", [detector_weights, classifier_weights, partial(detector_weights, location=True)]
)
@pytest.mark.parametrize("architecture", STAGES)
def test_sound_weights_pass(make: Callable[[str], Weights], architecture: str) -> None:
    check_weights(make(architecture))
    as_checkpoint(make(architecture))
