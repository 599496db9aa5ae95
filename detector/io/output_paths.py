"""Keeping outputs apart: none replaces what is read, another output, or a file of a data set."""

import os
import stat
from collections.abc import Hashable, Iterable
from pathlib import Path

from detector.errors import ParameterError
from detector.io.image_paths import has_image_suffix
from detector.io.terminal_text import printable_path

_WEIGHTS = (".safetensors", ".npz", ".pth", ".pt")


class ProtectedFiles:
    """The files that an output must not replace. Each output that is let in is one of them from then on.

    Files are compared as what they are, not by the spelling of their paths. Devices, pipes and folders may be
    given twice.
    """

    def __init__(self, inputs: Iterable[Path | None], data: Path | None = None) -> None:
        """``inputs`` are files that are read, None for one that was not given; ``data`` is the folder of a
        data set: nothing that exists in it is replaced, for it may be its labels, and no picture is added."""
        self._uses = {identity(path): "is also read" for path in inputs if path is not None}
        self._data = None if data is None else data.resolve()

    def add(self, path: Path | None) -> None:
        """Let an output in. Raises ParameterError, saying why, for one that must not be written."""
        mine = None if path is None else identity(path)
        if path is None or mine is None:
            return
        shown = printable_path(path)
        if mine in self._uses:
            raise ParameterError(f"{shown} {self._uses[mine]}: give the output another name")
        if self._data is not None and path.resolve().is_relative_to(self._data):
            if path.exists():
                raise ParameterError(f"{shown} is a file in the data set: delete it, or name another place")
            if has_image_suffix(path):
                raise ParameterError(
                    f"{shown} is in the data set, where it would be one of its pictures: name another place"
                )
        self._uses[mine] = "is named twice"


def check_not_overwriting(path: Path | None) -> None:
    """Raises ParameterError where results in JSON would replace a file that is called like weights or a
    picture, whether or not it is read: nobody calls results so."""
    if path is None or identity(path) is None or not path.is_file():
        return
    if has_image_suffix(path) or path.suffix.lower() in _WEIGHTS:
        raise ParameterError(f"{printable_path(path)} is there, and no results: give another name")


def check_apart(
    outputs: Iterable[Path | None], inputs: Iterable[Path | None], data: Path | None = None
) -> None:
    """Find out, before work is done, whether outputs would replace one another, an input, or data.

    Arguments are those of :class:`ProtectedFiles`. Raises ParameterError.
    """
    taken = ProtectedFiles(inputs, data)
    for path in outputs:
        taken.add(path)


def identity(path: Path) -> Hashable:
    """What tells a file apart, however it is spelt, also one that is still to be written; None for a device,
    a pipe or a folder."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return os.path.realpath(path)
    return (about.st_dev, about.st_ino) if stat.S_ISREG(about.st_mode) else None
