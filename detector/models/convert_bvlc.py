"""Reading of the weights of BVLC GoogLeNet, trained by the Berkeley Vision and Learning Center."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.errors import CheckpointError
from detector.inference.region_crops import Preprocessing
from detector.io.readable_files import unreadable
from detector.io.terminal_text import printable_path
from detector.models.googlenet import GoogLeNet

PREPROCESSING = Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0))
"""Caffe subtracts 104, 117, 123 from BGR in 0..255; here the channels are RGB."""

_BRANCHES = {
    "branch1": "1x1",
    "branch3.0": "3x3_reduce",
    "branch3.1": "3x3",
    "branch5.0": "5x5_reduce",
    "branch5.1": "5x5",
    "branch_pool.1": "pool_proj",
}


def read_bvlc(path: Path) -> GoogLeNet:
    """Read the network from an ``.npz`` of Caffe's arrays, ``NAME_w`` [out,in,kh,kw] and ``NAME_b`` [out].

    Caffe's input is BGR; the first convolution's channels are reversed, so that the network takes RGB.
    Raises CheckpointError for a file that is no such archive, lacks an array, or has an array of anything
    but finite numbers.
    """
    arrays = _arrays(path)
    network = GoogLeNet(1000)
    with torch.no_grad():
        for ours, caffe in _names().items():
            _copy(network, f"{ours}.weight", arrays, f"{caffe}_w", path)
            _copy(network, f"{ours}.bias", arrays, f"{caffe}_b", path)
        first_kernel = network.get_parameter("features.conv1.conv.weight")
        first_kernel.copy_(first_kernel.flip(1))
    return network


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if (reason := unreadable(path)) is not None:
        raise CheckpointError(reason)
    wanted = {f"{caffe}_{part}" for caffe in _names().values() for part in "wb"}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):
            pass  # else NumPy would take it for a single array or a pickle
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if key in wanted}
    except OSError as error:
        raise CheckpointError(f"{printable_path(path)} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever damaged headers lead to: SyntaxError, KeyError, zlib.error
        raise CheckpointError(
            f"{printable_path(path)} is no whole .npz archive of arrays, as the BVLC weights are kept in; "
            "convert or download them again"
        ) from error


def _names() -> dict[str, str]:
    """Return the name of Caffe's layer for each of our modules."""
    names = {
        "features.conv1.conv": "conv1_7x7_s2",
        "features.conv2_reduce.conv": "conv2_3x3_reduce",
        "features.conv2.conv": "conv2_3x3",
        "classifier": "loss3_classifier",
    }
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for ours, caffe in _BRANCHES.items():
            names[f"features.inception_{block}.{ours}.conv"] = f"inception_{block}_{caffe}"
    return names


def _copy(network: GoogLeNet, ours: str, arrays: dict[str, np.ndarray], caffe: str, path: Path) -> None:
    parameter: Tensor = network.get_parameter(ours)
    if caffe not in arrays:
        raise CheckpointError(f"{path}: array {caffe!r} is missing; this is not BVLC GoogLeNet")
    array = arrays[caffe]
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise CheckpointError(f"{path}: array {caffe!r} must hold numbers with a fraction")
    with np.errstate(over="ignore"):  # infinities are rejected below
        value = torch.from_numpy(array.astype(np.float32))  # in the machine's byte order
    if not value.isfinite().all():
        raise CheckpointError(f"{path}: array {caffe!r} holds values that are not finite")
    if value.numel() != parameter.numel():
        raise CheckpointError(
            f"{path}: array {caffe!r} has shape {list(value.shape)}, GoogLeNet needs {list(parameter.shape)}"
        )
    parameter.copy_(value.reshape(parameter.shape))
