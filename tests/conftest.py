"""Fixtures that every package's tests share."""

import copy
from pathlib import Path

import pytest
import torch

from detector.bvlc import PREPROCESSING
from detector.checkpoints import Checkpoint, Metadata, save_checkpoint
from detector.classes import ilsvrc_cls
from detector.folding import fold
from detector.googlenet import GoogLeNet

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; the test skips where there is none."""
    if not (SHARED / "ilsvrc").is_dir():
        pytest.skip(f"shared data is absent (looked for {SHARED.name}/ beside the checkout)")
    return SHARED


@pytest.fixture(scope="session")
def untrained() -> Checkpoint:
    """An untrained GoogLeNet of the 1000 classes, the same on every run; not to be changed."""
    torch.manual_seed(0)
    return Checkpoint(
        GoogLeNet().eval(), Metadata("untrained", "googlenet", PREPROCESSING, ilsvrc_cls(), licence="none")
    )


@pytest.fixture
def classifier_checkpoint(untrained: Checkpoint) -> Checkpoint:
    """A copy of it: an engine converts the network it is given."""
    return copy.deepcopy(untrained)


@pytest.fixture(scope="session")
def checkpoint_path(untrained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector of the 200 classes that also classifies, as a file."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(1)
    save_checkpoint(path, fold(untrained, own_rows=True))
    return path
