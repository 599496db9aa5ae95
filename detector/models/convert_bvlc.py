"""Reading of the weights of BVLC GoogLeNet, trained by the Berkeley Vision and Learning Center."""

import zipfile
from pathlib import Path

import numpy as np

from detector.errors import CheckpointError
from detector.inference.preprocessing import Preprocessing
from detector.io.readable_files import unreadable
from detector.io.terminal_text import printable_path
from detector.models.caffe_weights import CLASSES, caffe_layers, copy_array, take_rgb
from detector.models.googlenet import GoogLeNet

PREPROCESSING = Preprocessing(mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0))
"""Caffe subtracts 104, 117, 123 from BGR in 0..255; here the channels are RGB."""


def read_bvlc(path: Path) -> GoogLeNet:
    """Read the network from an ``.npz`` of Caffe's arrays, ``NAME_w`` [out,in,kh,kw] and ``NAME_b`` [out].

    Caffe's input is BGR; the first convolution's channels are reversed, so that the network takes RGB.
    Raises CheckpointError for a file that is no such archive, lacks an array, or has an array of anything
    but finite numbers.
    """
    arrays = _arrays(path)
    network = GoogLeNet(CLASSES)
    shown = printable_path(path)
    for ours, caffe in _names().items():
        for part, parameter in (("w", "weight"), ("b", "bias")):
            key = f"{caffe}_{part}"
            if key not in arrays:
                raise CheckpointError(f"{shown}: array {key!r} is missing; this is not BVLC GoogLeNet")
            copy_array(network, f"{ours}.{parameter}", arrays[key], f"{shown}: array {key!r}")
    take_rgb(network)
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
    """Return the name in the archive, which has no slashes, for each of our modules."""
    return {ours: caffe.replace("/", "_") for ours, caffe in caffe_layers().items()}
