"""The file of a checkpoint: safetensors whose header carries one JSON object, the metadata, and a SHA-256.

Nothing is ever unpickled, and nothing is made of what is read: that is :mod:`detector.checkpoints`.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from detector.errors import CheckpointError
from detector.files import write_whole
from detector.text import one_line

FORMAT = "googlenet-detector/1"

_ENTRY = "googlenet-detector"
"""Where the metadata stands in the header."""


def write_file(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write contiguous tensors of the CPU and metadata that are JSON, in one piece."""
    header = {"format": FORMAT, "sha256": digest(tensors), **metadata}
    write_whole(path, save(dict(tensors), metadata={_ENTRY: json.dumps(header)}))


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The metadata, with ``format`` and ``sha256``, and the tensors.

    Raises CheckpointError if the file is missing, truncated or foreign.
    """
    with _open(path) as file:
        header = _header(file, path)
        try:
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: its tensors cannot be read: {one_line(error)}") from error


def read_header(path: Path) -> dict[str, Any]:
    """The metadata alone. Raises CheckpointError as :func:`read_file` does."""
    with _open(path) as file:
        return _header(file, path)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors: of their names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _open(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no whole safetensors file ({one_line(error)}); a truncated download, or a "
            "foreign format? Weights of other kinds come in through `detector weights import`"
        ) from error


def _header(file: Any, path: Path) -> dict[str, Any]:
    text = (file.metadata() or {}).get("googlenet-detector")
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a checkpoint of this project: its header has no "
            "'googlenet-detector' entry"
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata is no JSON: {one_line(error)}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its metadata is no JSON object")
    if header.get("format") != FORMAT:
        stated = one_line(repr(header.get("format")))
        raise CheckpointError(f"{path} has format {stated}; this version reads {FORMAT!r}")
    return header
