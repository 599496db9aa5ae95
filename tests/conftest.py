"""Fixtures that every package's tests share."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.inference.image_scales import ImageScales, first_centre
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.models.convert_bvlc import PREPROCESSING
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from detector.models.multibox_head import MultiBoxHead
from detector.models.multibox_spec import MultiBoxSpec
from detector.models.transfer import from_classifier
from detector.proposals.anchors import Grid, share_out
from detector.structures.classes import ilsvrc_cls

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
    save_checkpoint(path, from_classifier(untrained, own_sub_classes=True))
    return path


@pytest.fixture(scope="session")
def multibox_spec() -> MultiBoxSpec:
    """A MultiBox head for GoogLeNet with priors of seven shapes, which sees images small: that is quick."""
    shapes = np.array([(12, 12), (24, 16), (30, 44), (60, 40), (50, 70), (110, 80), (128, 140)], np.float32)
    strides = (8, 16, 32, 64)
    sides = zip(strides, share_out(shapes, strides), strict=True)
    grids = tuple(Grid(stride, first_centre(stride), some) for stride, some in sides)
    return MultiBoxSpec(("inception_3b", "inception_4e"), (480, 832), ImageScales((64, 128)), grids)


@pytest.fixture(scope="session")
def multibox_path(
    checkpoint_path: Path, multibox_spec: MultiBoxSpec, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same detector with an untrained MultiBox head, as a file."""
    path = tmp_path_factory.mktemp("weights") / "multibox.safetensors"
    bare = load_checkpoint(checkpoint_path)
    torch.manual_seed(2)
    head = MultiBoxHead(multibox_spec)
    save_checkpoint(path, Checkpoint(bare.network, replace(bare.metadata, multibox=multibox_spec), head))
    return path
