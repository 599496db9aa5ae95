"""What several tests of training start from: a small set of pictures, and a detector that learned nothing."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.transfer import from_classifier
from tests.training.small_sets import rectangles, write_voc


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in the layout of PASCAL VOC."""
    root = tmp_path_factory.mktemp("voc")
    write_voc(root, rectangles(12, seed=0))
    return root


@pytest.fixture(scope="module")
def init_path(untrained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector, in the precision that it is kept in."""
    path = tmp_path_factory.mktemp("init") / "init.safetensors"
    torch.manual_seed(1)
    start = from_classifier(untrained, own_sub_classes=True)
    metadata = replace(start.metadata, metrics={"mAP": 0.25}, training={"iterations": 5}, licence="of a test")
    save_checkpoint(path, replace(start, metadata=metadata))
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
