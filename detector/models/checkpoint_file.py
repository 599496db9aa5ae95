"""The file of a checkpoint: safetensors whose header carries one JSON object, the metadata.

It holds two digests: ``tensors_sha256`` of the tensors, and ``sha256`` of the whole JSON object, that digest
included. They show a damaged file, and an edited class name even without reading the tensors. Nothing is
unpickled, and no network is built here: that is :mod:`detector.models.checkpoint`.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (makes NumPy know bfloat16)
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from detector.errors import CheckpointError
from detector.io.atomic_write import write_whole
from detector.io.readable_files import unreadable
from detector.io.terminal_text import one_line, printable

FORMAT = "googlenet-detector/2"

EARLIER_FORMAT = "googlenet-detector/1"
"""The earlier format. It has one digest, ``sha256``, of the tensors alone, or none."""

_ENTRY = "googlenet-detector"
"""The key of the metadata in the header."""

Tensors = Mapping[str, NDArray[Any]]
"""A checkpoint's tensors by name."""

_FETCH_AGAIN = "Copy or download it again"


def write_file(path: Path, metadata: Mapping[str, Any], tensors: Tensors) -> None:
    """Write contiguous tensors, and metadata as JSON, atomically.

    Raises WriteError for a file that cannot be written.
    """
    header = {"format": FORMAT, "tensors_sha256": tensors_digest(tensors), **metadata}
    header["sha256"] = header_digest(header)
    write_whole(path, save(dict(tensors), metadata={_ENTRY: json.dumps(header)}))


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read and verify the header's JSON object, format and digests included, and the tensors.

    A file of the earlier format without a digest, as other programs may write it, is accepted.
    Raises CheckpointError if the file is missing, truncated, foreign, or not as it was written.
    """
    with _open(path) as file:
        header = _header(file, path)
        try:
            tensors = {name: _tensor(file, name, path) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: its tensors cannot be read: {one_line(error)}") from error
    stated = "sha256" if header["format"] == EARLIER_FORMAT else "tensors_sha256"
    if stated in header and header[stated] != tensors_digest(tensors):
        raise CheckpointError(
            f"{path} is damaged: its tensors do not have the SHA-256 its header states. {_FETCH_AGAIN}"
        )
    return header, tensors


def read_header(path: Path) -> dict[str, Any]:
    """Read and verify the header's JSON object alone. Raises CheckpointError as :func:`read_file` does."""
    with _open(path) as file:
        return _header(file, path)


def header_digest(header: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a header's JSON object without its ``sha256``, whatever its layout as text."""
    content = {name: value for name, value in header.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def tensors_digest(tensors: Tensors) -> str:
    """Return the SHA-256 of the names, types, shapes and bytes of tensors, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        # As torch spells the type: files were written so.
        digest.update(f"{name} torch.{value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


_KINDS = frozenset(
    {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64"}
)
"""Types of safetensors that NumPy has."""


def _tensor(file: Any, name: str, path: Path) -> NDArray[Any]:
    """Return a tensor. Raises CheckpointError for one of a type that NumPy does not have."""
    kind = file.get_slice(name).get_dtype()
    if kind not in _KINDS:
        raise CheckpointError(
            f"{path}: tensor {printable(name)!r} is of type {printable(kind)}: whole numbers or, for all but "
            "labels, numbers with a fraction are needed"
        )
    return file.get_tensor(name)


def _open(path: Path) -> Any:
    if (reason := unreadable(path)) is not None:
        raise CheckpointError(reason)
    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no whole safetensors file ({one_line(error)}); a truncated download, or a "
            "foreign format? Weights of other kinds come in through `detector weights import`"
        ) from error


def _header(file: Any, path: Path) -> dict[str, Any]:
    text = (file.metadata() or {}).get(_ENTRY)
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a checkpoint of this project: its header has no "
            f"{_ENTRY!r} entry"
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata is no JSON: {one_line(error)}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its metadata is no JSON object")
    if header.get("format") not in (FORMAT, EARLIER_FORMAT):
        stated = one_line(repr(header.get("format")))
        raise CheckpointError(
            f"{path} has format {stated}; this version reads {FORMAT!r} and {EARLIER_FORMAT!r}"
        )
    if header["format"] == FORMAT:
        if "sha256" not in header or "tensors_sha256" not in header:
            raise CheckpointError(f"{path} is damaged: its header lacks a SHA-256. {_FETCH_AGAIN}")
        if header["sha256"] != header_digest(header):
            raise CheckpointError(
                f"{path} is damaged: its header does not have the SHA-256 it states. {_FETCH_AGAIN}"
            )
    return header
