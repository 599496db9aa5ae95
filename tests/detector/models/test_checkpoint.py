"""Weights files: what is written is read back, and everything else is named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from detector.errors import CheckpointError
from detector.inference.ensemble import Ensemble
from detector.inference.loading import load_ensemble
from detector.inference.scoring import Scoring
from detector.models.checkpoint import (
    Checkpoint,
    Metadata,
    load_checkpoint,
    save_checkpoint,
)
from detector.models.checkpoint_file import EARLIER_FORMAT, header_digest
from detector.models.convert_bvlc import PREPROCESSING
from detector.models.googlenet import GoogLeNet
from detector.models.multibox_head import MultiBoxHead
from detector.models.multibox_spec import MultiBoxSpec
from detector.models.region_network import RegionNetwork
from detector.models.torchvision_googlenet import read_torchvision
from detector.models.transfer import from_classifier
from detector.models.weights import read_metadata
from detector.structures.classes import ilsvrc_cls
from tests.detector.models.digests import digest_by_torch
from tests.detector.models.verified import verify_checkpoint


def test_detector_round_trip_keeps_scores_and_metadata(checkpoint_path: Path, tmp_path: Path) -> None:
    first = load_checkpoint(checkpoint_path)
    assert isinstance(first.network, RegionNetwork)
    marked = Checkpoint(
        first.network,
        replace(
            first.metadata,
            metrics={"mAP": 0.25},
            training={"iterations": 3},
            source="here",
            scoring=Scoring(fit_power=0.5, context="regions", flip=True, vote_iou=0.5),
        ),
    )
    path = tmp_path / "again.safetensors"
    save_checkpoint(path, marked, torch.float32)
    second = load_checkpoint(path)
    assert second.metadata == marked.metadata == read_metadata(path) == verify_checkpoint(path)
    crops = torch.randn(2, 3, 224, 224) * 50
    with torch.no_grad():
        outputs = first.network(crops), second.network(crops)
    assert outputs[0].predicted_iou is not None
    for ours, theirs in zip(*outputs, strict=True):
        assert torch.equal(ours, theirs)


@pytest.fixture
def earlier_path(checkpoint_path: Path, tmp_path: Path) -> Path:
    """The same detector as earlier versions made it: with a box head and an IoU head, as a file."""
    start, path = load_checkpoint(checkpoint_path), tmp_path / "earlier.safetensors"
    assert isinstance(start.network, RegionNetwork)
    torch.manual_seed(4)
    network = RegionNetwork(start.backbone, start.network.pooling.labels, 200, iou_prediction=True)
    for head in (network.box_head, network.fit_head):
        for value in head.parameters():  # type: ignore[union-attr]
            torch.nn.init.normal_(value, std=0.01)
    save_checkpoint(path, Checkpoint(network, start.metadata))
    return path


@pytest.mark.parametrize("lacking", [[], ["fit_head"], ["box_head"], ["fit_head", "box_head"]])
def test_heads_of_earlier_versions_are_optional(
    earlier_path: Path, tmp_path: Path, lacking: list[str]
) -> None:
    """A file without the tensors of a head makes a network without it, which says the rest as before."""
    path = tmp_path / "fewer.safetensors"
    whole = load_checkpoint(earlier_path).network
    shutil.copy(earlier_path, path)

    def behead(header: dict, tensors: dict) -> None:
        for name in [name for name in tensors if name.partition(".")[0] in lacking]:
            del tensors[name]

    _rewritten(behead)(path)
    network = load_checkpoint(path).network
    maps = torch.randn(2, 1024, 7, 7)
    with torch.no_grad():
        ours, theirs = network.heads(maps), whole.heads(maps)
    assert torch.equal(ours.logits, theirs.logits)
    assert (ours.predicted_iou is None) == ("fit_head" in lacking) == (not network.predicts_iou)
    assert bool((ours.deltas == 0).all()) == ("box_head" in lacking) == (not network.moves_boxes)
    assert (network.offset_scale is None) == ("box_head" in lacking)


def test_a_location_head_comes_back(checkpoint_path: Path, tmp_path: Path) -> None:
    """Bit by bit, and with nothing that drops out."""
    first, path = load_checkpoint(checkpoint_path), tmp_path / "again.safetensors"
    assert isinstance(first.network, RegionNetwork)
    assert first.network.location_head is not None
    with torch.no_grad():
        for value in first.network.location_head.parameters():
            value.normal_()
        first.network.location_head.scale.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    save_checkpoint(path, first, torch.float32)
    assert {name.partition(".")[0] for name in load_file(path)} == {"backbone", "pooling", "location_head"}
    network = load_checkpoint(path).network
    assert isinstance(network, RegionNetwork)
    assert network.location_head is not None
    for name, value in first.network.location_head.state_dict().items():
        assert torch.equal(network.location_head.state_dict()[name], value), name
    assert not network.location_head.training
    assert (network.box_head, network.fit_head) == (None, None)
    assert network.moves_boxes
    assert network.predicts_iou
    assert network.offset_scale is network.location_head.scale
    cells = torch.rand(2, 832, 7, 7)
    with torch.no_grad():
        for ours, theirs in zip(network.outputs_of(cells), first.network.outputs_of(cells), strict=True):
            assert torch.equal(ours, theirs)


def test_without_a_location_head_boxes_stay(checkpoint_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "fewer.safetensors"
    whole = load_checkpoint(checkpoint_path).network
    shutil.copy(checkpoint_path, path)

    def behead(header: dict, tensors: dict) -> None:
        for name in [name for name in tensors if name.startswith("location_head.")]:
            del tensors[name]

    _rewritten(behead)(path)
    network = load_checkpoint(path).network
    assert not network.moves_boxes
    assert not network.predicts_iou
    cells = torch.rand(2, 832, 7, 7)
    with torch.no_grad():
        ours, theirs = network.outputs_of(cells), whole.outputs_of(cells)
    assert torch.equal(ours.logits, theirs.logits)
    assert ours.predicted_iou is None
    assert (ours.deltas == 0).all()


def test_float16_halves_the_file_and_keeps_scores(classifier_checkpoint: Checkpoint, tmp_path: Path) -> None:
    half, full = tmp_path / "half.safetensors", tmp_path / "full.safetensors"
    save_checkpoint(half, classifier_checkpoint)
    save_checkpoint(full, classifier_checkpoint, torch.float32)
    assert half.stat().st_size < 0.51 * full.stat().st_size
    crops = torch.randn(4, 3, 224, 224) * 50
    with torch.no_grad():
        ours, theirs = (load_checkpoint(p).backbone.logits(crops).softmax(1) for p in (half, full))
    assert (ours - theirs).abs().max() < 1e-2


def test_auxiliary_classifiers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "aux.safetensors"
    save_checkpoint(path, Checkpoint(GoogLeNet(aux=True), _metadata()))
    assert not [name for name in load_file(path) if name.startswith("aux")]
    load_checkpoint(path)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 this is some other format" * 50)


def _plain_safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(2)}, path)


def _rewritten(change: Callable[[dict, dict], object], *, sound: bool = True) -> Callable[[Path], None]:
    """Changes the header and the tensors of a file; ``sound`` states their new SHA-256."""

    def rewrite(path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["googlenet-detector"])
        tensors = load_file(path)
        change(header, tensors)
        if sound:
            header["tensors_sha256"] = digest_by_torch(tensors)
            header["sha256"] = header_digest(header)
        save_file(tensors, path, metadata={"googlenet-detector": json.dumps(header)})

    return rewrite


Load = Callable[[Path], object]


def _as_graphs(path: Path) -> Ensemble:
    return load_ensemble(path, engine="openvino", device="cpu")


@pytest.fixture(params=[load_checkpoint, _as_graphs], ids=["for torch", "as graphs"])
def load(request: pytest.FixtureRequest) -> Load:
    """Each way to load a file: what one refuses the other must not serve."""
    return request.param


def _cut_location_head(header: dict, tensors: dict) -> None:
    tensors["location_head.locate.weight"] = tensors["location_head.locate.weight"][:4].clone()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(
            lambda header, tensors: tensors.pop("location_head.scale"),
            "lacks tensors location_head.scale",
            id="a tensor lacks",
        ),
        pytest.param(_cut_location_head, r"has the shape \[4, 256\] where \[5, 256\] is", id="no IoU"),
        pytest.param(
            lambda header, tensors: tensors.update({"location_head.extra": torch.zeros(1)}),
            "unknown tensors location_head.extra",
            id="a tensor too many",
        ),
        pytest.param(
            lambda header, tensors: tensors["location_head.hidden.bias"].fill_(float("nan")),
            "not finite",
            id="no numbers",
        ),
    ],
)
def test_a_broken_location_head_is_named(
    checkpoint_path: Path, tmp_path: Path, load: Load, damage: Callable[[dict, dict], object], says: str
) -> None:
    path = tmp_path / "broken.safetensors"
    shutil.copy(checkpoint_path, path)
    _rewritten(damage)(path)
    with pytest.raises(CheckpointError, match=says) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_changed_weight_is_found_of_the_location_head(checkpoint_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    shutil.copy(checkpoint_path, path)
    _rewritten(lambda header, tensors: tensors["location_head.locate.bias"].add_(1), sound=False)(path)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(path)


BROKEN = [
    ("missing", lambda path: path.unlink(), "does not exist"),
    ("truncated", _truncated, "no whole safetensors file"),
    ("empty", _empty, "no whole safetensors file"),
    ("foreign format", _foreign, "no whole safetensors file"),
    ("safetensors of another project", _plain_safetensors, "not a checkpoint of this project"),
    ("later format", _rewritten(lambda h, t: h.update(format="googlenet-detector/9")), "this version reads"),
    ("unknown architecture", _rewritten(lambda h, t: h.update(architecture="vgg16")), "vgg16"),
    ("no preprocessing", _rewritten(lambda h, t: h.pop("preprocessing")), "preprocessing"),
    ("unknown scoring", _rewritten(lambda h, t: h.update(scoring={"luck": 2})), "luck"),
    ("scoring out of range", _rewritten(lambda h, t: h.update(scoring={"nms_iou": 2})), "nms_iou must lie"),
    ("a tensor lacks", _rewritten(lambda h, t: t.pop("classifier.bias")), "lacks tensors classifier.bias"),
    ("a tensor too many", _rewritten(lambda h, t: t.update(extra=torch.zeros(1))), "unknown tensors extra"),
    (
        "a tensor of another shape",
        _rewritten(lambda h, t: t.update({"classifier.bias": torch.zeros(7)})),
        "does not fit",
    ),
]


@pytest.mark.parametrize(("damage", "says"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_files_are_named(
    classifier_checkpoint: Checkpoint, tmp_path: Path, load: Load, damage: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, classifier_checkpoint)
    damage(path)
    with pytest.raises(CheckpointError, match=says):
        load(path)


def _with(**changes: object) -> Callable[[Path], None]:
    """Changes entries of the header."""
    return _rewritten(lambda header, tensors: header.update(changes))


def _edited(**changes: object) -> Callable[[Path], None]:
    """Changes entries of the header as somebody does who does not state its SHA-256 anew."""
    return _rewritten(lambda header, tensors: header.update(changes), sound=False)


def _with_tensors_digest(digest: object) -> Callable[[Path], None]:
    def change(header: dict, tensors: dict) -> None:
        header["tensors_sha256"] = digest
        header["sha256"] = header_digest(header)

    return _rewritten(change, sound=False)


def _prepared(**changes: object) -> Callable[[Path], None]:
    """Changes entries of the header's preprocessing."""
    return _rewritten(lambda header, tensors: header["preprocessing"].update(changes))


def _metadata_text(text: str) -> Callable[[Path], None]:
    """Puts any text in the place of the metadata's JSON."""
    return lambda path: save_file(load_file(path), path, metadata={"googlenet-detector": text})


def _labels(labels: torch.Tensor) -> Callable[[Path], None]:
    return _rewritten(lambda header, tensors: tensors.update({"pooling.labels": labels}))


def _typed(name: str, dtype: torch.dtype) -> Callable[[Path], None]:
    return _rewritten(lambda header, tensors: tensors.update({name: tensors[name].to(dtype)}))


def _filled(name: str, value: float) -> Callable[[Path], None]:
    return _rewritten(lambda header, tensors: tensors[name].fill_(value))


UNUSABLE = [
    ("no JSON", _metadata_text("{nope"), "no JSON"),
    ("nested without end", _metadata_text("[" * 200_000), "no JSON"),
    ("a list", _metadata_text("[1]"), "no JSON object"),
    ("null", _metadata_text("null"), "no JSON object"),
    ("an architecture that is a list", _with(architecture=["googlenet"]), "architecture, which must be text"),
    ("an architecture that is an object", _with(architecture={}), "architecture, which must be text"),
    ("a name that is a number", _with(name=5), "name, which must be text"),
    ("a licence that is null", _with(licence=None), "licence, which must be text"),
    ("training that is a list", _with(training=[1]), "training, which must be"),
    ("metrics that are text", _with(metrics="x"), "metrics, which must be"),
    ("classes that are a list", _with(detection=[1, 2]), "detection, which must be an object"),
    ("no classes", _with(detection={"ids": [], "names": []}), "at least one entry"),
    ("ids that are numbers", _with(detection={"ids": [1], "names": ["a"]}), "lists of text"),
    ("names that are null", _with(detection={"ids": ["a"], "names": [None]}), "lists of text"),
    ("an id twice", _with(detection={"ids": ["a", "a"], "names": ["a", "b"]}), "twice"),
    ("fewer classes than labels", _with(detection={"ids": ["a"], "names": ["a"]}), r"must lie in -1\.\.1"),
    ("size 0", _prepared(size=0), "size must be"),
    ("negative size", _prepared(size=-5), "size must be"),
    ("endless size", _prepared(size=100_000), "size must be"),
    ("size as text", _prepared(size="224"), "size must be"),
    ("size true", _prepared(size=True), "size must be"),
    ("context of the whole crop", _prepared(context=112), "context must be"),
    ("negative context", _prepared(context=-1), "context must be"),
    ("std 0", _prepared(std=[0, 0, 0]), "std must be three numbers in"),
    ("negative std", _prepared(std=[1, -1, 1]), "std must be three numbers in"),
    ("mean of two", _prepared(mean=[1, 2]), "mean must be three numbers in"),
    ("mean as text", _prepared(mean="abc"), "mean must be three numbers in"),
    ("endless mean", _prepared(mean=[float("inf"), 1, 1]), "mean must be three numbers in"),
    ("mean that is no number", _prepared(mean=[float("nan"), 1, 1]), "mean must be three numbers in"),
    ("short side 0", _prepared(short_side=0), "short_side must be"),
    ("negative short side", _prepared(short_side=-1), "short_side must be"),
    ("short side as text", _prepared(short_side="x"), "short_side must be"),
    ("labels of another type", _labels(torch.zeros(1200)), "list of whole numbers"),
    ("labels beyond the classes", _labels(torch.full((1200,), 2**62)), "must lie in"),
    ("labels below", _labels(torch.full((1200,), -5)), "must lie in"),
    ("one label alone", _labels(torch.tensor(5)), "list of whole numbers"),
    ("no labels", _labels(torch.zeros(0, dtype=torch.int64)), "list of whole numbers"),
    ("labels in a table", _labels(torch.zeros(1, 1200, dtype=torch.int64)), "list of whole numbers"),
    ("labels without end", _labels(torch.zeros(30_000_000, dtype=torch.uint8)), "more|shape"),
    ("a weight that is no number", _filled("backbone.classifier.bias", float("nan")), "not finite"),
    ("a size that the heads do not fit", _prepared(size=320), "does not fit googlenet"),
    ("a size that leaves no map", _prepared(size=8, context=1), "does not fit googlenet"),
    *(
        (
            f"weights of {dtype}",
            _typed("backbone.classifier.bias", dtype),
            "numbers with a fraction are needed",
        )
        for dtype in (torch.float8_e4m3fn, torch.complex64, torch.bool, torch.int16)
    ),
    ("a weight that is endless", _filled("backbone.classifier.bias", float("-inf")), "not finite"),
    ("a bit flipped", lambda path: _flip(path), "is damaged"),
    ("a digest of another type", _edited(sha256=5), "its header does not have"),
    ("a digest of the tensors of another type", _with_tensors_digest(5), "its tensors do not have"),
    ("no digest", _rewritten(lambda h, t: h.pop("sha256"), sound=False), "lacks a SHA-256"),
    (
        "no digest of the tensors",
        _rewritten(lambda h, t: h.pop("tensors_sha256"), sound=False),
        "lacks a SHA",
    ),
    ("an edited class name", _edited(detection={"ids": ["a"], "names": ["a"]}), "its header does not have"),
    ("an edited licence", _edited(licence="public domain"), "its header does not have"),
    ("a field more", _edited(remark="none"), "its header does not have"),
    ("called earlier than it is", _edited(format=EARLIER_FORMAT), "its tensors do not have"),
    ("a mean beyond all pixels", _prepared(mean=[1e308, 1, 1]), "mean must be three numbers in"),
    ("a mean of true", _prepared(mean=[True, 1, 1]), "mean must be three numbers in"),
    ("a mean that is one number", _prepared(mean=5), "mean must be three numbers in"),
    ("no mean", _prepared(mean=None), "mean must be three numbers in"),
    ("a std beyond all pixels", _prepared(std=[1e9, 1, 1]), "std must be three numbers in"),
    ("a std of next to nothing", _prepared(std=[1e-30, 1, 1]), "std must be three numbers in"),
    ("preprocessing that is a list", _with(preprocessing=[1]), "preprocessing, which must be an object"),
    ("preprocessing without a size", _rewritten(lambda h, t: h["preprocessing"].pop("size")), "lacks 'size'"),
    ("a class without a name", _with(detection={"ids": ["a"], "names": [""]}), "lists of text"),
    ("a class name of blanks", _with(detection={"ids": ["a"], "names": [" "]}), "lists of text"),
    ("ids without names", _with(detection={"ids": ["a"]}), "lacks 'names'"),
    ("MultiBox that is a list", _with(multibox=[1]), "multibox, which must be an object"),
    ("stages that are null", _rewritten(lambda h, t: h["multibox"].update(stages=None)), "stages, which"),
    ("grids that are a number", _rewritten(lambda h, t: h["multibox"].update(grids=3)), "grids, which"),
    ("sides as text", _rewritten(lambda h, t: h["multibox"]["grids"][0].update(sides="x")), "sides, which"),
    ("scoring that is a list", _with(scoring=[1]), "scoring"),
    ("a scoring power as text", _with(scoring={"fit_power": "a"}), "fit_power must lie"),
    (
        "MultiBox of images of an endless size",
        _rewritten(lambda h, t: h["multibox"]["image"].update(scales=[10**9])),
        "scales must be whole numbers",
    ),
    (
        "MultiBox of cells in one place",
        _rewritten(lambda h, t: h["multibox"]["grids"][0].update(stride=0)),
        "stride, which",
    ),
    (
        "MultiBox of two kinds at once",
        _rewritten(lambda h, t: h["multibox"].update(size=224)),
        "lacks 'cells'",
    ),
    (
        "MultiBox of endless maps",
        _rewritten(lambda h, t: h["multibox"].update(channels=[10**9, 832])),
        "channels, which",
    ),
    (
        "a tensor's name that would clear the screen",
        _rewritten(lambda h, t: t.update({"\x1b[2J": torch.zeros(1)})),
        r"unknown tensors \\x1b\[2J",
    ),
]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("damage", "says"), [b[1:] for b in UNUSABLE], ids=[b[0] for b in UNUSABLE])
def test_files_that_load_elsewhere_and_must_not_here(
    multibox_path: Path, tmp_path: Path, load: Load, damage: Callable[[Path], None], says: str
) -> None:
    """Each would be served, or end in a traceback. What is said is one line that cannot move a cursor."""
    path = tmp_path / "weights.safetensors"
    shutil.copy(multibox_path, path)
    damage(path)
    with pytest.raises(CheckpointError, match=says) as caught:
        load(path)
    assert str(caught.value).isprintable()


def _earlier(digest: bool) -> Callable[[Path], None]:
    """Makes a file of the format before this one."""

    def change(header: dict, tensors: dict) -> None:
        header["format"] = EARLIER_FORMAT
        del header["sha256"]
        stated = header.pop("tensors_sha256")
        if digest:
            header["sha256"] = stated

    return _rewritten(change, sound=False)


def test_a_file_of_the_earlier_format_is_verified_by_its_tensors(multibox_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    shutil.copy(multibox_path, path)
    _earlier(digest=True)(path)
    assert verify_checkpoint(path) == load_checkpoint(multibox_path).metadata
    _flip(path)
    with pytest.raises(CheckpointError, match="its tensors do not have"):
        load_checkpoint(path)


def test_a_file_without_a_digest_is_read_but_not_verified(multibox_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    shutil.copy(multibox_path, path)
    _earlier(digest=False)(path)
    load_checkpoint(path)
    with pytest.raises(CheckpointError, match="states no SHA-256"):
        verify_checkpoint(path)


@pytest.mark.exhaustive
def test_any_edit_of_the_metadata_is_told(multibox_path: Path, tmp_path: Path) -> None:
    """A digit or a letter anywhere: whatever the JSON says afterwards, it is not what was written."""
    data = multibox_path.read_bytes()
    begin = data.index(b"googlenet-detector")
    end = data.index(b'"},"', begin)  # of the entry; tensors follow
    path = tmp_path / "weights.safetensors"
    places = [place for place in range(begin, end) if data[place : place + 1].isalnum()]
    for place in places[:: len(places) // 150]:
        damaged = bytearray(data)
        damaged[place] = ord("7") if damaged[place] != ord("7") else ord("3")
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            read_metadata(path)


def test_texts_of_a_file_cannot_move_a_cursor(multibox_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    shutil.copy(multibox_path, path)
    _with(name="\x1b]0;owned\x07\nERROR \ud800", training={"by\x9b": ["\r"]})(path)
    metadata = load_checkpoint(path).metadata
    assert metadata.name == r"\x1b]0;owned\x07\nERROR \ud800"
    assert metadata.training == {r"by\x9b": [r"\r"]}


BROKEN_HEAD = [
    (
        "a tensor of the head lacks",
        _rewritten(lambda h, t: t.pop("multibox.mix.conv.weight")),
        r"lacks tensors multibox\.mix\.conv\.weight",
    ),
    (
        "a tensor of the head too many",
        _rewritten(lambda h, t: t.update({"multibox.more": torch.zeros(1)})),
        r"unknown tensors multibox\.more",
    ),
    (
        "the head's tensors, and nothing said of a head",
        _rewritten(lambda h, t: h.pop("multibox")),
        r"unknown tensors multibox\.",
    ),
    (
        "another number of shapes than the tensors",
        _rewritten(lambda h, t: h["multibox"]["grids"][0]["sides"].append([5, 5])),
        "does not fit googlenet",
    ),
    (
        "a grid more than the tensors",
        _rewritten(lambda h, t: h["multibox"]["grids"].append({**h["multibox"]["grids"][-1], "stride": 128})),
        "lacks tensors",
    ),
    ("a spec without grids", _rewritten(lambda h, t: h["multibox"].pop("grids")), "lacks 'grids'"),
    ("no grid", _rewritten(lambda h, t: h["multibox"].update(grids=[])), "garbles grids"),
    (
        "a spec without scales",
        _rewritten(lambda h, t: h["multibox"].pop("image")),
        "lacks 'image'",
    ),
    (
        "stages that swap their maps",
        _rewritten(lambda h, t: h["multibox"]["stages"].reverse()),
        "does not fit googlenet",
    ),
    (
        "stages of one size, for grids of two",
        _rewritten(lambda h, t: h["multibox"].update(stages=["pool3", "inception_4e"])),
        "outputs has .* anchors|pool3, which has no stride of 8",
    ),
    (
        "a spec that is text",
        _rewritten(lambda h, t: h.update(multibox="yes")),
        "multibox, which must be an object",
    ),
    (
        "a stage that the trunk lacks",
        _rewritten(lambda h, t: h["multibox"].update(stages=["inception_3b", "inception_9z"])),
        "no stage 'inception_9z'",
    ),
]


@pytest.mark.parametrize(("damage", "says"), [b[1:] for b in BROKEN_HEAD], ids=[b[0] for b in BROKEN_HEAD])
def test_broken_multibox_heads_are_named(
    multibox_path: Path, tmp_path: Path, load: Load, damage: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "weights.safetensors"
    shutil.copy(multibox_path, path)
    damage(path)
    with pytest.raises(CheckpointError, match=says):
        load(path)


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_multibox_round_trip(
    multibox_path: Path,
    multibox_spec: MultiBoxSpec,
    classifier_checkpoint: Checkpoint,
    tmp_path: Path,
    kind: str,
) -> None:
    """The head stands beside a detector as beside a mere classifier, bit by bit the same."""
    first = load_checkpoint(multibox_path)
    if kind == "classifier":
        metadata = replace(classifier_checkpoint.metadata, multibox=multibox_spec)
        first = Checkpoint(classifier_checkpoint.network, metadata, first.multibox)
    path = tmp_path / "again.safetensors"
    save_checkpoint(path, first, torch.float32)
    second = load_checkpoint(path)
    assert second.metadata == first.metadata == read_metadata(path) == verify_checkpoint(path)
    assert second.metadata.multibox == multibox_spec
    assert first.multibox is not None
    assert second.multibox is not None
    assert second.multibox.spec == multibox_spec
    assert not second.multibox.training
    maps = torch.rand(1, 480, 28, 28), torch.rand(1, 832, 14, 14)
    with torch.no_grad():
        assert torch.equal(first.multibox(*maps), second.multibox(*maps))
    assert type(second.network) is type(first.network)
    for name, value in first.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value), name


def test_a_checkpoint_without_a_head_says_so(checkpoint_path: Path) -> None:
    checkpoint = load_checkpoint(checkpoint_path)
    assert checkpoint.multibox is None
    assert checkpoint.metadata.multibox is None


def test_a_file_from_before_multibox_is_read(checkpoint_path: Path, tmp_path: Path) -> None:
    """Its header has no entry for a head at all, nor for scoring."""
    path = tmp_path / "old.safetensors"
    shutil.copy(checkpoint_path, path)
    _rewritten(lambda header, tensors: (header.pop("multibox"), header.pop("scoring")))(path)
    assert read_metadata(path).scoring == Scoring()
    assert verify_checkpoint(path) == read_metadata(checkpoint_path)


def test_what_is_written_is_the_head_that_is_there(multibox_path: Path, tmp_path: Path) -> None:
    """Metadata that speak of a head where there is none would make a file that cannot be read."""
    whole, path = load_checkpoint(multibox_path), tmp_path / "headless.safetensors"
    save_checkpoint(path, Checkpoint(whole.network, whole.metadata))
    assert load_checkpoint(path).multibox is None
    assert read_metadata(path).multibox is None


def test_a_changed_weight_is_found_of_the_head(multibox_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    shutil.copy(multibox_path, path)
    verify_checkpoint(path)
    _rewritten(lambda header, tensors: tensors["multibox.context.bias"].add_(1), sound=False)(path)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(path)


@pytest.mark.parametrize("own_sub_classes", [False, True])
def test_folding_keeps_the_head(
    classifier_checkpoint: Checkpoint, multibox_spec: MultiBoxSpec, tmp_path: Path, own_sub_classes: bool
) -> None:
    head = MultiBoxHead(multibox_spec)
    metadata = replace(classifier_checkpoint.metadata, multibox=multibox_spec)
    folded = from_classifier(
        Checkpoint(classifier_checkpoint.network, metadata, head), own_sub_classes=own_sub_classes
    )
    assert folded.multibox is head
    path = tmp_path / "folded.safetensors"
    save_checkpoint(path, folded)
    assert verify_checkpoint(path).multibox == multibox_spec


def test_a_changed_weight_is_found(classifier_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, classifier_checkpoint)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):  # nothing in its shape gives it away
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(classifier_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, classifier_checkpoint)
    before = path.read_bytes()
    unwritable = Checkpoint(
        classifier_checkpoint.network, replace(classifier_checkpoint.metadata, metrics={"mAP": object()})
    )
    with pytest.raises(TypeError):
        save_checkpoint(path, unwritable)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvision_weights_give_torchvisions_results(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.GoogLeNet(num_classes=1000, init_weights=True).eval()
    path = tmp_path / f"googlenet{suffix}"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        save_file(theirs.state_dict(), path)
    ours = read_torchvision(path).eval()
    crops = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(ours.logits(crops), theirs(crops), atol=1e-5)
    stored = tmp_path / "ours.safetensors"
    save_checkpoint(
        stored, Checkpoint(ours, replace(_metadata(), architecture="torchvision-googlenet")), torch.float32
    )
    with torch.no_grad():
        assert torch.allclose(load_checkpoint(stored).backbone.logits(crops), theirs(crops), atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "foreign", "other state dict"])
def test_foreign_torchvision_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        read_torchvision(path)


def _metadata() -> Metadata:
    return Metadata("test", "googlenet", PREPROCESSING, ilsvrc_cls())


def _with_whole(checkpoint: Checkpoint) -> Checkpoint:
    """The same with a second classifier, of whole images."""
    torch.manual_seed(5)
    checkpoint.backbone.whole = nn.Linear(1024, 1000)
    return checkpoint


def test_a_classifier_of_whole_images_is_kept(checkpoint_path: Path, tmp_path: Path) -> None:
    """And changes nothing else."""
    first = _with_whole(load_checkpoint(checkpoint_path))
    path = tmp_path / "whole.safetensors"
    save_checkpoint(path, first, torch.float32)
    second, plain = load_checkpoint(path), load_checkpoint(checkpoint_path)
    assert verify_checkpoint(path) == plain.metadata
    tensors = load_file(path)
    assert {name for name in tensors if "whole" in name} == {"backbone.whole.weight", "backbone.whole.bias"}
    assert first.backbone.whole is not None
    assert second.backbone.whole is not None
    assert torch.equal(second.backbone.whole.weight, first.backbone.whole.weight)
    assert plain.backbone.whole is None
    maps, cells = torch.randn(2, 1024, 7, 7), torch.rand(2, 832, 7, 7)
    with torch.no_grad():
        assert torch.equal(second.backbone.classify_whole(maps), first.backbone.whole(maps.mean(dim=(2, 3))))
        assert torch.equal(plain.backbone.classify_whole(maps), plain.backbone.pool(maps))
        heads = (checkpoint.network.heads(maps, cells) for checkpoint in (second, plain))
        for ours, theirs in zip(*heads, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(_with(classification=None), "names no classes of them", id="no classes of whole images"),
        pytest.param(
            _rewritten(lambda h, t: t.pop("backbone.whole.bias")),
            "lacks tensors backbone.whole.bias",
            id="half",
        ),
        pytest.param(
            _rewritten(lambda h, t: t.update({"backbone.whole.bias": torch.zeros(7)})),
            "does not fit",
            id="of other classes than the file names",
        ),
        pytest.param(
            _rewritten(lambda h, t: t.update({"backbone.whole.scale": torch.zeros(7)})),
            "unknown tensors backbone.whole.scale",
            id="a tensor too many",
        ),
        pytest.param(_filled("backbone.whole.weight", float("nan")), "not finite", id="no numbers"),
    ],
)
def test_classifiers_of_whole_images_that_cannot_be_used(
    checkpoint_path: Path, tmp_path: Path, load: Load, damage: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "whole.safetensors"
    save_checkpoint(path, _with_whole(load_checkpoint(checkpoint_path)))
    damage(path)
    with pytest.raises(CheckpointError, match=says):
        load(path)


def test_what_only_classifies_has_one_classifier(classifier_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    save_checkpoint(path, _with_whole(classifier_checkpoint))
    with pytest.raises(CheckpointError, match=r"unknown tensors whole\.bias, whole\.weight"):
        load_checkpoint(path)
