"""Checks that no output replaces an input, another output, or a file of a data set."""

import os
import stat
from collections.abc import Hashable, Iterable
from pathlib import Path

from detector.errors import ParameterError
from detector.io.image_paths import has_image_suffix
from detector.io.terminal_text import printable_path

_WEIGHTS = (".safetensors", ".npz", ".pth", ".pt")


class ProtectedFiles:
    """The files that an output must not replace. Each output that is added becomes one of them.

    Files are compared by identity, not by the spelling of their paths. Devices, pipes and folders may be
    given twice.
    """

    def __init__(self, inputs: Iterable[Path | None], data: Path | None = None) -> None:
        """Protect the files ``inputs`` (None for one that was not given) and the data set in folder ``data``.

        In that folder no existing file may be replaced, since it may hold labels, and no image may be added.
        """
        self._uses = {identity(path): "is also read" for path in inputs if path is not None}
        self._data = None if data is None else data.resolve()

    def add(self, path: Path | None) -> None:
        """Add an output. Raises ParameterError, with the reason, for one that must not be written."""
        file_identity = None if path is None else identity(path)
        if path is None or file_identity is None:
            return
        shown = printable_path(path)
        if file_identity in self._uses:
            raise ParameterError(f"{shown} {self._uses[file_identity]}: give the output another name")
        if self._data is not None and path.resolve().is_relative_to(self._data):
            if path.exists():
                raise ParameterError(f"{shown} is a file in the data set: delete it, or name another place")
            if has_image_suffix(path):
                raise ParameterError(
                    f"{shown} is in the data set, where it would be one of its pictures: name another place"
                )
        self._uses[file_identity] = "is named twice"


def check_not_overwriting(path: Path | None) -> None:
    """Check that results in JSON do not replace a file with the suffix of weights or of an image.

    Raises ParameterError if they would, whether or not the file is read in this run.
    """
    if path is None or identity(path) is None or not path.is_file():
        return
    if has_image_suffix(path) or path.suffix.lower() in _WEIGHTS:
        raise ParameterError(f"{printable_path(path)} is there, and no results: give another name")


def check_apart(
    outputs: Iterable[Path | None], inputs: Iterable[Path | None], data: Path | None = None
) -> None:
    """Check, before work is done, that outputs replace neither one another, nor an input, nor data.

    Arguments are those of :class:`ProtectedFiles`. Raises ParameterError.
    """
    taken = ProtectedFiles(inputs, data)
    for path in outputs:
        taken.add(path)


def identity(path: Path) -> Hashable:
    """Return a key that is equal for all spellings of a file's path, also of a file still to be written.

    Returns None for a device, a pipe or a folder.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return os.path.realpath(path)
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None
