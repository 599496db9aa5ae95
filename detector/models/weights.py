"""Weights of no framework: a checkpoint's tensors as NumPy arrays, and its metadata.

What a file holds is read and checked here; :mod:`detector.models.checkpoint` builds torch networks of it,
:mod:`detector.graphs` graphs for other engines.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.errors import CheckpointError
from detector.io.terminal_text import printable
from detector.models.checkpoint_file import read_file, read_header, write_file
from detector.models.metadata import Metadata, metadata_from

REAL = ("float16", "bfloat16", "float32", "float64")
"""Types that a network's numbers are stored as, by NumPy's names."""

WHOLE = ("int8", "int16", "int32", "int64", "uint8")
"""Types that labels are stored as."""


@dataclass(frozen=True, eq=False)
class Weights:
    """A checkpoint's metadata, and tensors by the names of the torch network.

    ``source`` is what errors call it. ``numbers`` is what an exported file computes in (``float32``,
    ``float16``, ``int8``); empty for a checkpoint.
    """

    metadata: Metadata
    tensors: Mapping[str, NDArray[Any]]
    source: str = "the checkpoint"
    numbers: str = ""

    def has(self, prefix: str) -> bool:
        """Tell whether there are tensors whose names begin so."""
        return any(name.startswith(prefix) for name in self.tensors)

    def check_finite(self) -> None:
        """Raise CheckpointError for tensors with values that are not finite."""
        for name, value in self.tensors.items():
            if not np.isfinite(value.astype(np.float32)).all():
                raise CheckpointError(f"{self.source}: tensor {name!r} holds values that are not finite")


def read_weights(path: Path) -> Weights:
    """Read a checkpoint's file, or an ONNX file that `detector export` wrote.

    Raises CheckpointError if the file is missing, truncated, foreign or damaged, or its metadata cannot be
    understood. Whether the tensors fit the network is for who builds it.
    """
    if path.suffix.lower() == ".onnx":
        from detector.graphs.exported import read_exported

        return read_exported(path)
    header, tensors = read_file(path)
    metadata = metadata_from(header, path)
    check_labels(metadata, tensors, str(path))
    return Weights(metadata, tensors, str(path))


def change_metadata(source: Path, target: Path, **changes: Any) -> None:
    """Write a checkpoint again, to ``target``, with other entries of :class:`Metadata`; its tensors stay as
    they are. Raises CheckpointError and WriteError."""
    weights = read_weights(source)
    write_file(target, replace(weights.metadata, **changes).as_json(), weights.tensors)


def read_metadata(path: Path) -> Metadata:
    """Read the metadata without the tensors. Raises CheckpointError as :func:`read_weights` does."""
    if path.suffix.lower() == ".onnx":
        return read_weights(path).metadata
    return metadata_from(read_header(path), path)


def check_shapes(
    architecture: str,
    tensors: Mapping[str, NDArray[Any]],
    expected: Mapping[str, tuple[int, ...]],
    whole: Collection[str],
    source: str,
) -> None:
    """Raise CheckpointError unless the tensors have the expected names and shapes, those in ``whole`` whole
    numbers, the others numbers with a fraction."""
    for what, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has unknown", tensors.keys() - expected.keys()),
    ):
        if names:
            raise CheckpointError(f"{source} does not fit {architecture}: it {what} tensors {_some(names)}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise CheckpointError(
                f"{source} does not fit {architecture}: tensor {name} has the shape "
                f"{list(tensors[name].shape)} where {list(shape)} is needed"
            )
        kinds, words = (WHOLE, "whole numbers") if name in whole else (REAL, "numbers with a fraction")
        kind = tensors[name].dtype.name
        if kind not in kinds:
            raise CheckpointError(f"{source}: tensor {name!r} is of type {kind}, where {words} are needed")


def check_labels(metadata: Metadata, tensors: Mapping[str, NDArray[Any]], path: str) -> None:
    """Raise CheckpointError for sub-class labels of a detector that are missing or out of range."""
    if metadata.detection is None:
        return
    if "pooling.labels" not in tensors:
        raise CheckpointError(f"{path} names detection classes but lacks 'pooling.labels'")
    labels, count = tensors["pooling.labels"], len(metadata.detection)
    if labels.dtype.name not in WHOLE or labels.ndim != 1 or not len(labels):
        raise CheckpointError(f"{path}: 'pooling.labels' must be a list of whole numbers")
    if int(labels.min()) < -1 or int(labels.max()) > count:  # as Python's integers: uint8 has no -1
        raise CheckpointError(f"{path}: 'pooling.labels' must lie in -1..{count}, as it has {count} classes")
    if metadata.classification is not None and len(metadata.classification) > len(labels):
        raise CheckpointError(f"{path} names more classification classes than its classifier has rows")


def _some(names: set[str]) -> str:
    shown = printable(", ".join(sorted(names)[:4]))
    return shown if len(names) <= 4 else f"{shown}, ..."
