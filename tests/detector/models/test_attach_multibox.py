"""A MultiBox head moves between checkpoints only where the trunk that it reads is the same."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from detector.errors import CheckpointError
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet
from detector.models.transfer import attach_multibox_head


@pytest.fixture
def source(multibox_path: Path) -> Checkpoint:
    return load_checkpoint(multibox_path)


def test_a_classifier_takes_the_head_of_a_detector_on_its_trunk(
    classifier_checkpoint: Checkpoint, source: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "both.safetensors"
    save_checkpoint(path, attach_multibox_head(classifier_checkpoint, source))
    result = load_checkpoint(path)
    assert source.multibox is not None
    assert result.multibox is not None
    assert result.metadata.multibox == source.metadata.multibox
    for name, value in source.multibox.state_dict().items():
        assert torch.equal(result.multibox.state_dict()[name], value), name


def _changed(checkpoint: Checkpoint, stage: str) -> Checkpoint:
    network = copy.deepcopy(checkpoint.network)
    features = dict(Checkpoint(network, checkpoint.metadata).backbone.features.named_children())
    with torch.no_grad():
        next(module for module in features[stage].modules() if isinstance(module, nn.Conv2d)).weight.add_(0.1)
    return Checkpoint(network, checkpoint.metadata)


@pytest.mark.parametrize(
    ("stage", "fits"),
    [("conv1", False), ("inception_4e", False), ("inception_5a", True)],
    ids=["the first stage", "the last stage that it reads", "the first that it does not read"],
)
def test_only_stages_that_the_head_reads_matter(
    classifier_checkpoint: Checkpoint, source: Checkpoint, stage: str, fits: bool
) -> None:
    other = _changed(classifier_checkpoint, stage)
    if fits:
        assert attach_multibox_head(other, source).multibox is source.multibox
    else:
        with pytest.raises(CheckpointError, match="detector train multibox --init"):
            attach_multibox_head(other, source)


def test_who_has_none_or_another_trunk_is_told(classifier_checkpoint: Checkpoint, source: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="no MultiBox head"):
        attach_multibox_head(source, classifier_checkpoint)
    foreign = Checkpoint(TorchvisionGoogLeNet(1000), classifier_checkpoint.metadata)
    with pytest.raises(CheckpointError):
        attach_multibox_head(foreign, source)
