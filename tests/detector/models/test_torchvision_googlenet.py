"""torchvision's network beside ours, as its published weights are used: with transform_input, on 0..1."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from detector.inference.torch_arrays import TorchArrays
from detector.models.torchvision_googlenet import (
    PREPROCESSING,
    STAGES,
    TorchvisionGoogLeNet,
    read_torchvision,
)


@pytest.fixture(scope="module")
def theirs() -> torchvision.models.GoogLeNet:
    """torchvision's network as its published weights are made and used, with auxiliary classifiers.

    The statistics of its normalisations are not those of a new network.
    """
    torch.manual_seed(0)
    network = torchvision.models.GoogLeNet(aux_logits=True, transform_input=True, init_weights=True).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return network


def test_activations_are_torchvisions_from_the_picture_on(
    theirs: torchvision.models.GoogLeNet, tmp_path: Path
) -> None:
    """Our mean and deviation of 127.5 are ImageNet's scaling and ``transform_input``, which undoes it."""
    path = tmp_path / "googlenet.pth"
    torch.save(theirs.state_dict(), path)
    ours = read_torchvision(path).eval()
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    scaled = torchvision.transforms.functional.normalize(
        torch.from_numpy(image).permute(2, 0, 1).float() / 255,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
    )[None]
    depths: dict[str, Tensor] = {}
    for name in STAGES:
        theirs.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: depths.setdefault(name, output.clone())
        )
    worst = {}
    with torch.no_grad():
        expected = theirs(scaled)
        x = TorchArrays(torch.device("cpu")).normalise(image, PREPROCESSING)[None]
        for name, stage in ours.features.named_children():
            x = stage(x)
            worst[name] = _worst(x, depths[name])
        worst["logits"] = _worst(ours.pool(x), expected)
    print(f"largest differences {worst}")
    assert max(worst.values()) < 1e-5


def _worst(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_auxiliary_classifiers_are_left_out(theirs: torchvision.models.GoogLeNet, tmp_path: Path) -> None:
    path = tmp_path / "googlenet.pth"
    torch.save(theirs.state_dict(), path)
    assert read_torchvision(path).state_dict().keys() == TorchvisionGoogLeNet().state_dict().keys()
