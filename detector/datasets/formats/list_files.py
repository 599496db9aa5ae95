"""List files: an image of a split or a class a line, as people and programs write them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from detector.datasets.formats.text_files import all_lines, read_lines
from detector.datasets.formats.values import shown
from detector.datasets.layout import Entry
from detector.datasets.problems import ProblemLog
from detector.datasets.split_names import split_of
from detector.errors import DatasetError
from detector.io.image_paths import IMAGE_SUFFIXES, has_image_suffix, without_suffix
from detector.io.terminal_text import utf8_text
from detector.structures.classes import ClassList

Item = TypeVar("Item")


class ImageNames(Generic[Item]):
    """Finds what a line of a list names: by its id, the path of its file or the end of that path, with or
    without suffix. Names are compared exactly: those that are only similar are other pictures."""

    def __init__(self, items: Iterable[tuple[str, Path, Item]]) -> None:
        self._by_id: dict[str, Item] = {}
        self._by_name: dict[str, list[tuple[Path, Item]]] = {}
        for image_id, image, item in items:
            self._by_id.setdefault(image_id, item)
            for name in {image.name, image.stem}:
                self._by_name.setdefault(name, []).append((image, item))

    def find(self, line: str, path: Path) -> Item | None:
        """Return what a line names, None if it is nothing here. Raises DatasetError, naming the list file
        ``path``, if the line may name several."""
        for text in _spellings(line):
            if text in self._by_id:
                return self._by_id[text]
            wanted = Path(text if "/" in text else text.replace("\\", "/"))
            ends = [Path(*(part for part in wanted.parts if part not in ("/", "..")))]
            if has_image_suffix(wanted.name):
                ends.append(without_suffix(ends[0]))
            for end in ends:
                if end.as_posix() in self._by_id:
                    return self._by_id[end.as_posix()]
                if joined(wanted):
                    continue
                candidates = [
                    candidate for candidate in self._by_name.get(end.name, []) if _may_be(candidate[0], end)
                ]
                if len(candidates) > 1:  # the path in the line tells which, as far as it goes
                    candidates = [
                        candidate for candidate in candidates if _ends_with(candidate[0], end)
                    ] or candidates
                if len(candidates) > 1:
                    where = ", ".join(str(image) for image, _ in candidates[:3])
                    raise DatasetError(
                        f"{path} names {line!r}, which may be any of {where}: give more of its path"
                    )
                if candidates:
                    return candidates[0][1]
        return None


def listed(entries: Sequence[Entry], path: Path, log: ProblemLog) -> list[Entry]:
    """Return the entries that a list file names, in its order: one picture a line, further columns passed
    over.

    A picture is named by its id, the path of its file or the end of that path, with or without suffix. A
    line that names none of the entries is a problem, unless it is a comment (``#``). Raises DatasetError if
    the file cannot be read, names nothing, or names a picture by what is the name of several.
    """
    lines = read_lines(path)
    if not lines:
        raise DatasetError(f"list file {path} is empty: it must name one picture a line")
    names = ImageNames((entry.image_id, entry.image, entry) for entry in entries)
    found: dict[Path, Entry] = {}  # by file: ids may begin anew in each split, as Roboflow's do
    for line in lines:
        named = names.find(line, path)
        if named is not None:
            found.setdefault(named.image, named)
        elif not line.startswith("#"):
            log.report(line, "missing_image", f"{path} names this picture, which the data set does not have")
    return list(found.values())


def joined(path: Path) -> bool:
    """Return whether a path is that of several pictures, whose lines came to be one (``a.jpg./b.jpg``): that
    its end names one of them is then no reason to pass over the others."""
    return any(
        suffix in part.lower() or (part.endswith(".") and part != "..")
        for part in path.parts[:-1]
        for suffix in IMAGE_SUFFIXES
    )


def plain(line: str) -> str:
    """Return what a line of a list is meant to name: without quotes, mark (``-1``) and suffix."""
    text = list(_spellings(line))[-1] if re.search(r"\s-?[01]$", line) or line[0] in "\"'" else line
    if has_image_suffix(text):
        text = str(without_suffix(Path(text)))
    return text


def _spellings(line: str) -> Iterator[str]:
    """Yield what the name in a line may be, the likeliest first: a name may hold spaces, and further columns
    follow it."""
    yield line
    quoted = re.match(r"""(["'])(.+?)\1(\s|$)""", line)
    if quoted:
        yield quoted[2]
        return
    marked = re.match(r"(.+?)\s+-?[01]$", line)
    if marked:
        yield marked[1]
    first = line.split()[0]
    if first not in (line, marked[1] if marked else line):
        yield first


def _may_be(image: Path, end: Path) -> bool:
    """Return whether the splits in two paths do not speak against one picture: train/a.jpg is not
    val/a.jpg."""
    splits = split_of(image.parent), split_of(end.parent)
    return None in splits or splits[0] == splits[1] or _ends_with(image, end)


def _ends_with(image: Path, end: Path) -> bool:
    count = len(end.parts)
    return image.parts[-count:] == end.parts or without_suffix(image).parts[-count:] == end.parts


def relative(name: str, dropped: int = 0) -> Path:
    """Return the path of a ``file_name``, also one of Windows, without its first so many folders."""
    path = Path(name if "/" in name else name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in (".", "..")]
    return Path(*parts[min(dropped, len(parts) - 1) :]) if dropped and parts else path


def class_list(path: Path, names: Iterable[str]) -> ClassList:
    """Return the classes that a file or folder names, in its order; their names are never changed.

    Raises DatasetError if a name is empty, stands twice, or is not UTF-8: names are written into checkpoints
    and answers.
    """
    found: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name.strip():
            raise DatasetError(f"{path}: class {number}, counted from 0, has an empty name: give it one")
        if utf8_text(name) != name:
            raise DatasetError(
                f"{path}: the class name {utf8_text(name)!r} is not UTF-8: save the file in that encoding"
            )
        if name in found:
            raise DatasetError(
                f"{path}: the class name {shown(name)} stands twice (classes {found[name]} and {number}, "
                "counted from 0): give every class a name of its own"
            )
        found[name] = number
    return ClassList.of(found)


def read_names(path: Path) -> tuple[str, ...]:
    """Return the names that a file gives one a line, from number 0 on.

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
