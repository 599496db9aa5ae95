"""Fixtures that every package's tests share."""

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
def classifier_checkpoint() -> Checkpoint:
    """An untrained GoogLeNet of the 1000 classes, the same on every run."""
    torch.manual_seed(0)
    return Checkpoint(
        GoogLeNet().eval(), Metadata("untrained", "googlenet", PREPROCESSING, ilsvrc_cls(), licence="none")
    )


@pytest.fixture(scope="session")
def checkpoint_path(classifier_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector of the 200 classes that also classifies, as a file."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(1)
    save_checkpoint(path, fold(classifier_checkpoint, own_rows=True))
    return path
