"""The file of a checkpoint: safetensors whose header carries one JSON object, the metadata, and a SHA-256.

Nothing is ever unpickled, and nothing is made of what is read: that is :mod:`detector.checkpoints`.

The SHA-256 of a file of format 2 is that of the metadata and the tensors, and such a file has one. That of
format 1, of earlier versions, is of the tensors alone, and may lack; so neither a lost SHA-256 nor a changed
format makes the one of the other.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from detector.errors import CheckpointError
from detector.files import write_whole
from detector.readable import unreadable
from detector.text import one_line, printable_path
from detector.values import shown

FORMAT = "googlenet-detector/2"
EARLIER = "googlenet-detector/1"

_ENTRY = "googlenet-detector"
"""Where the metadata stands in the header."""


class Cover(StrEnum):
    """What the SHA-256 of a file is of."""

    ALL = "metadata and tensors"
    TENSORS = "tensors alone"
    NOTHING = "nothing"


class CheckpointFile(NamedTuple):
    """What a file holds: the metadata without format and SHA-256, the tensors, what the SHA-256 was of."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    cover: Cover


def write_file(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write contiguous tensors of the CPU and metadata that are JSON, in one piece."""
    header = {"format": FORMAT, **metadata}
    stated = {"format": FORMAT, "sha256": digest(tensors, header), **metadata}
    write_whole(path, save(dict(tensors), metadata={_ENTRY: json.dumps(stated, allow_nan=False)}))


def read_file(path: Path) -> CheckpointFile:
    """What a file holds, as it was written.

    Raises CheckpointError if the file is missing, truncated, foreign, or damaged: if what it holds does not
    have the SHA-256 that it states. A file of format 1 that states none is taken as it is.
    """
    name = printable_path(path)
    if (reason := unreadable(path)) is not None:
        raise CheckpointError(reason)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_ENTRY)
            header = _header(text, name)
            tensors = _tensors(file, name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{name} is no whole safetensors file ({one_line(error)}); a truncated download, or a "
            "foreign format? Weights of other kinds come in through `detector weights import`"
        ) from error
    cover = _checked(header, tensors, name)
    return CheckpointFile(
        {key: value for key, value in header.items() if key not in ("format", "sha256")}, tensors, cover
    )


def digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any] | None = None) -> str:
    """The SHA-256 of tensors, of their names, types, shapes and bytes; with ``header`` that of its values and
    the tensors.

    Of JSON it is the content that counts: the order of names, white space, escapes, and whether a number is
    written 1 or 1.0 do not.
    """
    found = hashlib.sha256()
    if header is not None:
        content = _plain(json.loads(json.dumps(header)))
        found.update(json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        found.update(value.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _plain(value: Any) -> Any:
    """A JSON value, its whole numbers written as such."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tensors(file: Any, name: str) -> dict[str, Tensor]:
    try:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{name}: its tensors cannot be read: {one_line(error)}") from error


def _header(text: str | None, name: str) -> dict[str, Any]:
    if text is None:
        raise CheckpointError(
            f"{name} is a safetensors file, but not a checkpoint of this project: its header has no "
            f"{_ENTRY!r} entry"
        )
    try:
        header = json.loads(text, object_pairs_hook=_object)
    except _TwiceError as error:
        raise CheckpointError(f"{name}: its metadata name {error} twice") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: its metadata is no JSON: {one_line(error)}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{name}: its metadata is no JSON object")
    stated = header.get("format")
    if stated not in (FORMAT, EARLIER):
        raise CheckpointError(
            f"{name} has the format {shown(stated)}; this version reads {FORMAT!r} and {EARLIER!r}"
        )
    return header


class _TwiceError(Exception):
    """A name that stands twice in a JSON object: which of the values was meant cannot be told."""


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(shown(key))
        found[key] = value
    return found


def _checked(header: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> Cover:
    """What the SHA-256 is of. Raises CheckpointError if it is another one, or lacks where it must not."""
    content = {key: value for key, value in header.items() if key != "sha256"}
    if header["format"] == EARLIER:
        if "sha256" not in header:
            return Cover.NOTHING
        if header["sha256"] != digest(tensors):
            raise CheckpointError(
                f"{name} is damaged: its tensors do not have the SHA-256 that its header states"
            )
        return Cover.TENSORS
    if "sha256" not in header:
        raise CheckpointError(
            f"{name} is damaged: its header states no SHA-256, which files of {FORMAT} have"
        )
    if header["sha256"] != digest(tensors, content):
        raise CheckpointError(
            f"{name} is damaged: its metadata and tensors do not have the SHA-256 that its header states"
        )
    return Cover.ALL
