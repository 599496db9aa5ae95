"""A run's state on disk, and small files of caches, both with digests, so that a damaged file is never used.

Files are written whole or not at all, and nothing is pickled.
"""

import hashlib
import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from detector.errors import CheckpointError
from detector.io.atomic_write import write_whole
from detector.io.readable_files import unreadable
from detector.io.terminal_text import printable_path
from training.trainer.command_errors import add_path_to_errors

_SIZE = 16


def write_sealed(path: Path, data: bytes) -> None:
    """Write ``data`` and its digest, whole or not at all."""
    with add_path_to_errors(path):
        write_whole(path, data + _digest_of(data))


def read_sealed(path: Path) -> bytes | None:
    """Read what :func:`write_sealed` wrote; None for a file that is cut off or changed.

    Raises OSError if the file cannot be read, CheckpointError for a pipe or a folder in its place.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{unreadable(path)}, or delete it: a part of a cache belongs there")
    content = path.read_bytes()
    data, digest = content[:-_SIZE], content[-_SIZE:]
    return data if digest == _digest_of(data) else None


def _digest_of(data: bytes) -> bytes:
    return blake2b(data, digest_size=_SIZE).digest()


def digest_with_weights(data: bytes, module: nn.Module) -> bytes:
    """Return a digest of the digest of a run's data and of the weights that are trained, as they are."""
    digest = hashlib.sha256(data)
    for name, value in module.named_parameters():
        if value.requires_grad:
            digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def save_state(path: Path, iteration: int, run: str, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write tensors by part and name. ``run`` identifies the run: another one cannot resume from the file."""
    tensors = {
        f"{part}/{name}": value.detach().contiguous().cpu()
        for part, values in parts.items()
        for name, value in values.items()
    }
    header = {"iteration": iteration, "run": run}
    text = json.dumps({**header, "sha256": _digest(header, tensors)})
    with add_path_to_errors(path):
        write_whole(path, save(tensors, metadata={"state": text}))


def load_state(path: Path, run: str) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """Read the number of iterations done, and the tensors by part and name.

    Raises CheckpointError if the file is no training state, is damaged, or is another run's.
    """
    if (reason := unreadable(path)) is not None:
        raise CheckpointError(f"{reason}; a training state belongs there")
    shown = printable_path(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            digest = header.pop("sha256")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        why = "it is cut off or damaged" if isinstance(error, SafetensorError) else "its header is another's"
        raise CheckpointError(
            f"{path} is no training state that this version wrote ({why}); delete it to start anew"
        ) from error
    if digest != _digest(header, tensors):
        raise CheckpointError(
            f"{shown} is damaged: it is not what was written. Put back a copy, or delete it to start anew"
        )
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        parts.setdefault(part, {})[name] = value
    if header["run"] != run:
        raise CheckpointError(
            f"{shown} belongs to a run with other data or settings; give another --output, or delete it to "
            "start anew. Pictures that changed or broke since are other data: bring them back, and it goes on"
        )
    return header["iteration"], parts


def _digest(header: Mapping[str, object], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
