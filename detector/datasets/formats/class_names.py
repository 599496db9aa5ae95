"""Class lists as files name them: checked where they are read, so that every later use can rely on them."""

from collections.abc import Iterable
from pathlib import Path

from detector.datasets.formats.list_file import all_lines
from detector.datasets.formats.text_file import printable
from detector.datasets.formats.values import shown
from detector.errors import DatasetError
from detector.structures.classes import ClassList


def class_list(path: Path, names: Iterable[str]) -> ClassList:
    """The classes that a file or folder names, in its order; their names are never changed.

    Raises DatasetError if a name is empty, stands twice, or is not UTF-8: names are written into checkpoints
    and answers.
    """
    found: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name.strip():
            raise DatasetError(f"{path}: class {number}, counted from 0, has an empty name: give it one")
        if printable(name) != name:
            raise DatasetError(
                f"{path}: the class name {printable(name)!r} is not UTF-8: save the file in that encoding"
            )
        if name in found:
            raise DatasetError(
                f"{path}: the class name {shown(name)} stands twice (classes {found[name]} and {number}, "
                "counted from 0): give every class a name of its own"
            )
        found[name] = number
    return ClassList.of(found)


def read_names(path: Path) -> tuple[str, ...]:
    """The names that a file gives one a line, from number 0 on.

    Raises DatasetError if it cannot be read, or a line before its last name is empty: whether tools counted
    that line is not known, and so neither are the numbers of the classes after it.
    """
    lines = all_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise DatasetError(
            f"{path}: line {lines.index('') + 1} is empty, so that the numbers of the classes after it are "
            "not known: delete it, or write the class that belongs there"
        )
    return tuple(lines)
