"""Caffe's names of GoogLeNet's layers, and the copying of arrays in Caffe's form into our network.

Shared by the readers of the forms in which BVLC GoogLeNet is handed on: an archive of arrays, a
``.caffemodel``, an ONNX graph.
"""

import numpy as np
import torch

from detector.errors import CheckpointError
from detector.models.googlenet import GoogLeNet

CLASSES = 1000
"""Classes of ILSVRC's classification, in the order of which BVLC GoogLeNet was trained."""

_BRANCHES = {
    "branch1": "1x1",
    "branch3.0": "3x3_reduce",
    "branch3.1": "3x3",
    "branch5.0": "5x5_reduce",
    "branch5.1": "5x5",
    "branch_pool.1": "pool_proj",
}

_BVLC_BIAS = (-0.9566, 0.0014, 0.0395, -0.3812, 0.4642, -0.7911, -0.1509, -0.9805)
"""The first biases of BVLC GoogLeNet's classifier."""


def caffe_layers() -> dict[str, str]:
    """Return the name of Caffe's layer for each of our modules with weights, in the order of the trunk."""
    layers = {
        "features.conv1.conv": "conv1/7x7_s2",
        "features.conv2_reduce.conv": "conv2/3x3_reduce",
        "features.conv2.conv": "conv2/3x3",
    }
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for ours, caffe in _BRANCHES.items():
            layers[f"features.inception_{block}.{ours}.conv"] = f"inception_{block}/{caffe}"
    layers["classifier"] = "loss3/classifier"
    return layers


def copy_array(network: GoogLeNet, name: str, array: np.ndarray, label: str) -> None:
    """Copy an array, of any precision and byte order, into the parameter ``name`` of a network.

    Shapes are compared without sides of 1: Caffe keeps a bias of 64 also as [1,1,1,64]. Raises
    CheckpointError, its message beginning with ``label``, for another shape and for anything but finite
    numbers with a fraction.
    """
    parameter = network.get_parameter(name)
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise CheckpointError(f"{label} must hold numbers with a fraction")
    with np.errstate(over="ignore"):  # infinities are rejected below
        value = torch.from_numpy(array.astype(np.float32))  # in the machine's byte order
    if not value.isfinite().all():
        raise CheckpointError(f"{label} holds values that are not finite")
    if _sides(value.shape) != _sides(parameter.shape):
        raise CheckpointError(
            f"{label} has shape {list(value.shape)}, GoogLeNet needs {list(parameter.shape)}"
        )
    with torch.no_grad():
        parameter.copy_(value.reshape(parameter.shape))


def take_rgb(network: GoogLeNet) -> None:
    """Turn a network of BGR into one of RGB: reverse the channels that its first convolution reads."""
    kernel = network.get_parameter("features.conv1.conv.weight")
    with torch.no_grad():
        kernel.copy_(kernel.flip(1))


def is_bvlc(network: GoogLeNet) -> bool:
    """Return whether a network has BVLC's published weights, maybe quantised, and not those of others.

    Looks at the classifier's bias, which any other training changes; a bias of int8 forms is off by less
    than 0.02.
    """
    bias = network.get_parameter("classifier.bias")
    known = bias.new_tensor(_BVLC_BIAS)
    return len(bias) == CLASSES and bool((bias[: len(known)] - known).abs().max() < 0.02)


def _sides(shape: torch.Size) -> list[int]:
    return [side for side in shape if side != 1]
