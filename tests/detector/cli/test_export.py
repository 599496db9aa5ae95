"""Exporting, calibrating, and using what was exported, as users do."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.frontend.settings import Settings
from api.worker.loaded_model import load_model
from detector.cli import export as command
from detector.cli.entry import main
from detector.graphs.networks import range_keys
from detector.graphs.stages import trunk_of
from detector.inference.loading import load_classifier, load_detector
from detector.models.checkpoint import load_checkpoint
from detector.models.checkpoint_file import write_file
from detector.models.weights import Weights, read_metadata, read_weights
from tests.detector.graphs.random_weights import classifier_weights, detector_weights
from tests.training.small_sets import rectangles, write_voc

Inside = Callable[..., int | str | None]
"""Arguments to what the command ends with: a status, or the text of an error."""


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    """The command without a process of its own."""

    def run(*arguments: object) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["detector", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code

    return run


def _file(tmp: pytest.TempPathFactory, name: str, weights: Weights) -> Path:
    path = tmp.mktemp("weights") / f"{name}.safetensors"
    write_file(path, weights.metadata.as_json(), weights.tensors)
    return path


@pytest.fixture(scope="module")
def detector_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that also classifies, with a MultiBox head."""
    return _file(tmp_path_factory, "detector", detector_weights(multibox=True))


@pytest.fixture(scope="module")
def classifier_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _file(tmp_path_factory, "classifier", classifier_weights())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index, size in enumerate([(60, 80), (64, 48)]):
        noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{index}.png")
    return folder


WRITTEN = [
    pytest.param("a.onnx", "float32", ["a.onnx"], id="ONNX", marks=pytest.mark.exhaustive),
    pytest.param("a.onnx", "float16", ["a.onnx"], id="ONNX, float16", marks=pytest.mark.exhaustive),
    pytest.param("a.onnx", "int8", ["a.onnx"], id="ONNX, int8"),
    pytest.param("a.xml", "float32", ["a.bin", "a.xml"], id="OpenVINO", marks=pytest.mark.exhaustive),
    pytest.param("a.XML", "float16", ["a.XML", "a.bin"], id="OpenVINO, float16"),
    pytest.param("a.xml", "int8", ["a.bin", "a.xml"], id="OpenVINO, int8", marks=pytest.mark.exhaustive),
    pytest.param("a.pt2", "float32", ["a.pt2"], id="torch", marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize(("name", "precision", "files"), WRITTEN)
@pytest.mark.parametrize("task", ["classify", pytest.param("detect", marks=pytest.mark.exhaustive)])
def test_files_of_each_format(
    inside: Inside,
    detector_path: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    precision: str,
    files: list[str],
    task: str,
) -> None:
    """They appear once their outputs are the network's, and nothing else is left beside them."""
    arguments = ("--weights", detector_path, "--task", task, "--precision", precision, "--data", images)
    done = inside("export", tmp_path / name, *arguments, "--tolerance", 1, "--images", 2)
    told = capsys.readouterr().out
    assert done == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert "verifying on 2 pictures against torch" in told
    assert "probabilities differ by" in told
    for file in files:
        assert f"{tmp_path / file}: " in told


def test_another_program_reads_openvinos_pair(
    inside: Inside, classifier_path: Path, tmp_path: Path, images: Path
) -> None:
    """Its outputs have names, and the metadata are in it."""
    import openvino

    arguments = ("--weights", classifier_path, "--task", "classify", "--data", images)
    assert inside("export", tmp_path / "a.xml", *arguments) == 0
    model = openvino.Core().read_model(tmp_path / "a.xml")
    assert [output.any_name for output in model.outputs] == ["0.probabilities"]
    assert "random-0" in model.get_rt_info(["framework", "googlenet-detector"]).astype(str)


def test_what_differs_too_much_is_not_written(
    inside: Inside, classifier_path: Path, images: Path, tmp_path: Path
) -> None:
    """The file that stood there stays."""
    target = tmp_path / "a.onnx"
    target.write_bytes(b"before")
    arguments = ("--weights", classifier_path, "--task", "classify", "--precision", "int8", "--data", images)
    said = inside("export", target, *arguments, "--tolerance", 0)
    assert str(said).startswith("error: nothing was written: in int8 probabilities differ by ")
    assert "where 0 is allowed" in str(said)
    assert "allow more with --tolerance" in str(said)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert target.read_bytes() == b"before"


REFUSALS: list[tuple[str, str, list[object], str]] = [
    ("no ending", "a", [], "a ends with none of .onnx, .xml, .pt2: name the file so, or give --format"),
    ("another ending", "a.bin", [], "ends with none of"),
    (
        "a format and another ending",
        "a.xml",
        ["--format", "onnx"],
        "a file of --format onnx ends with .onnx, and",
    ),
    ("no pictures", "a.onnx", ["--data", "EMPTY"], "holds no picture that can be read"),
    ("no folder", "a.onnx", ["--data", "nowhere"], "nowhere is no folder of pictures"),
    ("a task that it is not for", "a.onnx", [], "random-0 classifies whole pictures: "),
    ("no weights", "a.onnx", ["--weights", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
    (
        "torch's format in another precision",
        "a.pt2",
        ["--task", "classify", "--precision", "float16"],
        "torch-export writes float32",
    ),
]


@pytest.mark.parametrize(
    ("name", "arguments", "says"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_what_is_refused(
    inside: Inside, classifier_path: Path, tmp_path: Path, name: str, arguments: list[object], says: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [empty if word == "EMPTY" else word for word in arguments]
    if "--weights" not in given:
        given += ["--weights", classifier_path]
    said = inside("export", tmp_path / name, *given)
    assert str(said).startswith("error: ")
    assert says in str(said)
    assert len(str(said).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("kind", ["export", "calibrate"])
def test_the_source_is_not_written_over(
    inside: Inside, classifier_path: Path, images: Path, tmp_path: Path, kind: str
) -> None:
    source = tmp_path / ("a.onnx" if kind == "export" else "a.safetensors")
    source.write_bytes(classifier_path.read_bytes())
    before = source.read_bytes()
    if kind == "export":
        said = inside("export", source, "--weights", source, "--task", "classify")
    else:
        said = inside("weights", "calibrate", source, source, "--data", images)
    assert str(source) in str(said)
    assert str(said).startswith("error: ")
    assert source.read_bytes() == before


@pytest.mark.parametrize("name", ["a.onnx", "a.xml"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(
    inside: Inside, tmp_path: Path, name: str
) -> None:
    """A folder stands where the file, or the second of the pair, is to come."""
    (tmp_path / ("a.bin" if name == "a.xml" else name)).mkdir()
    said = inside("export", tmp_path / name, "--weights", "nowhere.safetensors")
    assert "nowhere.safetensors" not in str(said)
    assert str(tmp_path) in str(said)
    if os.geteuid() != 0:
        (tmp_path / "shut").mkdir(mode=0o500)
        assert "shut" in str(
            inside("export", tmp_path / "shut" / "a.onnx", "--weights", "nowhere.safetensors")
        )


def test_labels_tell_the_accuracy_too(
    inside: Inside, detector_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "voc", rectangles(2, seed=0))
    arguments = ("--weights", detector_path, "--data", tmp_path / "voc", "--images", 1)
    assert inside("export", tmp_path / "a.onnx", *arguments) == 0
    told = capsys.readouterr().out
    assert "mAP (VOC rule) on 1 pictures by openvino: " in told
    assert " in float32" in told


def test_calibrating_measures_and_leaves_the_weights(
    inside: Inside, detector_path: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "calibrated.safetensors"
    assert inside("weights", "calibrate", detector_path, target, "--data", images) == 0
    keys = range_keys(trunk_of("googlenet"))
    assert f"the activations of {len(keys)} layers" in capsys.readouterr().out
    before, after = read_weights(detector_path), read_weights(target)
    assert set(after.metadata.activation_ranges or ()) == set(keys)
    assert replace(after.metadata, activation_ranges=None) == before.metadata
    assert after.tensors.keys() == before.tensors.keys()
    for name, value in before.tensors.items():
        assert value.dtype == after.tensors[name].dtype
        assert np.array_equal(value, after.tensors[name]), name
    assert load_checkpoint(target).metadata == after.metadata
    assert (
        load_detector(target, engine="openvino", device="cpu", precision="int8").ensemble.precision == "int8"
    )
    assert inside("weights", "show", target) == 0
    assert "8 bits          calibrated" in capsys.readouterr().out
    assert inside("weights", "verify", target) == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [("empty", "holds no picture that can be read"), ("nowhere", "is no folder of pictures")],
)
def test_calibrating_wants_pictures(
    inside: Inside, classifier_path: Path, tmp_path: Path, data: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    target = tmp_path / "a.safetensors"
    said = inside("weights", "calibrate", classifier_path, target, "--data", tmp_path / data)
    assert says in str(said)
    assert not target.exists()


@pytest.fixture(scope="module")
def exported(detector_path: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector as an ONNX file."""
    path = tmp_path_factory.mktemp("exported") / "network.onnx"
    command.export(path, weights=detector_path, data=images, images=1)
    return path


@pytest.mark.parametrize(
    "engine", ["torch", "openvino", pytest.param("onnxruntime", marks=pytest.mark.exhaustive)]
)
def test_an_exported_file_is_weights_to_every_engine(
    exported: Path, detector_path: Path, images: Path, engine: str
) -> None:
    settings = {"engine": engine, "device": "cpu", "precision": "float32"}
    image = images / "0.png"
    detectors = [
        load_detector(path, profile="fast", max_proposals=3, **settings) for path in (exported, detector_path)
    ]
    ours, theirs = (each.detect([image], score_threshold=0, max_detections=3)[0] for each in detectors)
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert np.abs(ours.boxes - theirs.boxes).max() < 1e-2
    classifiers = [load_classifier(path, **settings) for path in (exported, detector_path)]
    ours, theirs = (each.probabilities(image) for each in classifiers)
    assert np.abs(ours - theirs).max() < 1e-5


def test_an_exported_file_is_shown_and_verified(
    inside: Inside, exported: Path, detector_path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert read_metadata(exported) == read_metadata(detector_path)
    assert inside("weights", "verify", exported) == 0
    assert "random-0 is whole" in capsys.readouterr().out
    assert inside("weights", "show", exported) == 0
    shown = capsys.readouterr().out
    assert "7 shapes of priors" in shown
    assert "MiB" in shown
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(exported.read_bytes()[:-50_000])
    for name in ("verify", "show"):
        assert "is no whole ONNX file" in str(inside("weights", name, broken))


def test_the_service_loads_an_exported_file(exported: Path) -> None:
    (settings,) = Settings(device="cpu", profile="fast", max_proposals=3).worker_settings()
    settings = replace(settings, models={"mine": [str(exported)]})
    model = load_model("mine", settings)
    assert model.info["engine"] == "openvino"
    assert model.info["members"][0]["file"]["name"] == "network.onnx"
    assert model.classifier is not None
    assert model.rate > 0
