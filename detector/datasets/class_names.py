"""Class lists as files name them: checked where they are read, so that every later use can rely on them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detector.classes import ClassList
from detector.datasets.text_file import printable
from detector.errors import DatasetError, ParameterError


def class_list(path: Path, names: Iterable[Any]) -> ClassList:
    """The classes that a file or folder names, in its order.

    Raises DatasetError if a name is empty, stands twice, or is not UTF-8: names are written into checkpoints
    and answers.
    """
    found = [str(name) for name in names]
    for name in found:
        if not name.strip():
            raise DatasetError(f"{path}: a class has an empty name: give every class a name of its own")
        if printable(name) != name:
            raise DatasetError(
                f"{path}: the class name {printable(name)!r} is not UTF-8: save the file in that encoding"
            )
    try:
        return ClassList.of(found)
    except ParameterError as error:
        raise DatasetError(f"{path}: {error}: give every class a name of its own") from error
