"""Fine-tuning for real, on a few pictures that the test makes: it learns, and a killed run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, verify_checkpoint
from detector.classes import ilsvrc_det
from detector.errors import CheckpointError, DatasetError, ParameterError
from detector.proposals.multibox_head import MultiBoxHead, MultiBoxSpec
from training.finetuning import finetune
from training.minibatch import BatchSettings
from training.recipe import Recipe
from training.run_log import RunLog
from training.sampling import SamplingSettings
from training.state import load_state, save_state

SMALL = Recipe(
    iterations=8, warmup=2, batch=BatchSettings(4, 8, 2), sampling=SamplingSettings(4, 6), save_every=3
)
ANNOTATION = (
    "<annotation><size><width>96</width><height>80</height><depth>3</depth></size><object><name>{wnid}</name>"
    "<bndbox><xmin>{x1}</xmin><xmax>{x2}</xmax><ymin>{y1}</ymin><ymax>{y2}</ymax></bndbox></object></annotation>"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures in the official layout: a bright square (an accordion) or a striped one (an airplane)."""
    root = tmp_path_factory.mktemp("ilsvrc")
    images, annotations = (
        root / "ILSVRC" / kind / "DET" / "train" / "made" for kind in ("Data", "Annotations")
    )
    lists = root / "ILSVRC" / "ImageSets" / "DET"
    for folder in (images, annotations, lists):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = []
    for index in range(6):
        image = rng.integers(60, 110, (80, 96, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(5, 40, 2))
        image[y : y + 36, x : x + 40] = 240
        if index % 2:
            image[y : y + 36 : 4, x : x + 40] = 10
        Image.fromarray(image).save(images / f"p{index}.JPEG", quality=95)
        box = {"x1": x, "x2": x + 39, "y1": y, "y2": y + 35}
        text = ANNOTATION.format(wnid=ilsvrc_det().ids[index % 2], **box)
        (annotations / f"p{index}.xml").write_text(text)
        names.append(f"made/p{index} {index + 1}\n")
    (lists / "train.txt").write_text("".join(names))
    return root


@pytest.fixture(scope="module")
def init_path(untrained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("init") / "init.safetensors"
    save_checkpoint(path, untrained, torch.float32)
    return path


@pytest.fixture(scope="module")
def undisturbed(data: Path, init_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    finetune(data, load_checkpoint(init_path), output, SMALL, device="cpu")
    return output


def test_writes_a_detector_and_a_log(undisturbed: Path) -> None:
    metadata = verify_checkpoint(undisturbed / "detector.safetensors")
    assert metadata.detection == ilsvrc_det()
    assert metadata.training["iterations"] == 8
    assert metadata.training["pictures"] == 6
    assert metadata.preprocessing.short_side == 80
    lines = [json.loads(line) for line in (undisturbed / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(8))
    assert all(np.isfinite(line["total"]) for line in lines)


def test_what_is_frozen_stays(undisturbed: Path, init_path: Path) -> None:
    before = load_checkpoint(init_path).backbone.features.state_dict()
    after = load_checkpoint(undisturbed / "detector.safetensors").backbone.features.state_dict()
    changed = {
        name.split(".")[0] for name in before if not torch.equal(before[name].half(), after[name].half())
    }
    assert changed == {"inception_5a", "inception_5b"}


def test_loss_falls(data: Path, init_path: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        iterations=40,
        warmup=2,
        rate=0.005,
        batch=SMALL.batch,
        sampling=SMALL.sampling,
        frozen_through="pool4",
    )
    finetune(data, load_checkpoint(init_path), tmp_path, recipe, device="cpu")
    total = [json.loads(line)["classification"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.mean(total[-8:]) < 0.5 * np.mean(total[:4])


def test_killed_and_resumed_equals_undisturbed(
    data: Path, init_path: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """kill -9 at some moment of the iterations, then the same command again."""
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[4]);"
        "from test_finetune_det import SMALL; from training.finetune_det import finetune;"
        "from detector.checkpoints import load_checkpoint;"
        "finetune(Path(sys.argv[1]), load_checkpoint(Path(sys.argv[2])), Path(sys.argv[3]), SMALL, "
        "device='cpu')"
    )
    command = [
        sys.executable,
        "-c",
        script,
        str(data),
        str(init_path),
        str(tmp_path),
        str(Path(__file__).parent),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (tmp_path / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "detector.safetensors").exists()
    subprocess.run(command, check=True, capture_output=True)
    resumed = load_checkpoint(tmp_path / "detector.safetensors").network.state_dict()
    expected = load_checkpoint(undisturbed / "detector.safetensors").network.state_dict()
    for name, value in expected.items():
        assert torch.allclose(resumed[name].float(), value.float(), rtol=1e-3, atol=1e-4), name
    log = [json.loads(line)["iteration"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log == list(range(8))


def test_all_stages_can_train(data: Path, init_path: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        iterations=2, frozen_through="none", batch=BatchSettings(2, 2, 1), sampling=SamplingSettings(2, 2)
    )
    finetune(data, load_checkpoint(init_path), tmp_path, recipe, device="cpu")
    before = load_checkpoint(init_path).backbone.features.state_dict()
    after = load_checkpoint(tmp_path / "detector.safetensors").backbone.features.state_dict()
    assert not torch.equal(before["conv1.conv.weight"].half(), after["conv1.conv.weight"].half())


@pytest.mark.parametrize(
    ("frozen_through", "kept"),
    [
        pytest.param("pool4", True, id="all that it reads keeps its weights"),
        pytest.param("inception_4e", True, id="the last stage that it reads is the last frozen one"),
        pytest.param("inception_4d", False, id="the last stage that it reads is trained"),
    ],
)
def test_a_multibox_head_stays_while_what_it_reads_does(
    data: Path,
    untrained: Checkpoint,
    multibox_spec: MultiBoxSpec,
    tmp_path: Path,
    frozen_through: str,
    kept: bool,
) -> None:
    torch.manual_seed(3)
    head = MultiBoxHead(multibox_spec)
    how = {"multibox": {"pictures": 3}}
    init = Checkpoint(
        untrained.network, replace(untrained.metadata, multibox=multibox_spec, training=how), head
    )
    recipe = Recipe(
        iterations=2,
        frozen_through=frozen_through,
        batch=BatchSettings(2, 2, 1),
        sampling=SamplingSettings(2, 2),
    )
    finetune(data, init, tmp_path, recipe, device="cpu")
    result = load_checkpoint(tmp_path / "detector.safetensors")
    assert result.metadata.multibox == (multibox_spec if kept else None)
    assert (result.multibox is not None) is kept
    assert result.metadata.training.get("multibox") == (how["multibox"] if kept else None)
    assert result.metadata.training["iterations"] == 2
    if result.multibox is not None:
        for name, value in head.state_dict().items():
            assert torch.equal(result.multibox.state_dict()[name].half(), value.half()), name


@pytest.mark.parametrize(
    ("recipe", "where", "error", "says"),
    [
        (Recipe(frozen_through="conv9"), None, ParameterError, "conv9"),
        (SMALL, "nowhere", DatasetError, "nowhere"),
    ],
    ids=["unknown stage", "no data"],
)
def test_unusable_input_is_named(
    data: Path, init_path: Path, tmp_path: Path, recipe: Recipe, where: str | None, error: type, says: str
) -> None:
    with pytest.raises(error, match=says):
        finetune(Path(where) if where else data, load_checkpoint(init_path), tmp_path, recipe)


def test_another_runs_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, 3, "this", {"weights": {"a.b": torch.ones(2)}})
    iteration, parts = load_state(path, "this")
    assert (iteration, parts["weights"]["a.b"].tolist()) == (3, [1.0, 1.0])
    with pytest.raises(CheckpointError, match="other data or settings"):
        load_state(path, "that")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="no training state"):
        load_state(path, "this")


def test_log_drops_what_will_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"iteration": {i}}}\n' for i in range(5)) + '{"iterat')
    RunLog(path, 3)
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [0, 1, 2]
