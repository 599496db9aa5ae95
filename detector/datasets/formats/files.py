"""Text and JSON files as tools write them: any encoding of Unicode, with or without a byte order mark.

List files: the pictures of a split, a line each, as people and programs write them.

Class lists as files name them: checked where they are read, so that every later use can rely on them.
"""

import codecs
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from detector.datasets.annotated_image import ProblemLog
from detector.datasets.entries import Entry
from detector.datasets.formats.values import shown
from detector.datasets.split_names import split_of
from detector.errors import DatasetError
from detector.io.image_paths import IMAGE_SUFFIXES, has_image_suffix, without_suffix
from detector.structures.classes import ClassList

_MARKS = (  # UTF-32's first: it begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_WHAT_IS_WRONG = {
    "Expecting value": "no value stands where one belongs",
    "Expecting property name enclosed in double quotes": "no name in double quotes stands where one belongs",
    "Expecting ':' delimiter": "no colon stands where one belongs",
    "Expecting ',' delimiter": "no comma stands where one belongs",
    "Unterminated string starting at": "the text that begins here has no end",
    "Invalid control character at": "a line feed or another control character stands in a text",
    "Extra data": "something follows where the content has ended",
    "Illegal trailing comma before end of object": "a comma is followed by nothing",
    "Illegal trailing comma before end of array": "a comma is followed by nothing",
}
"""What Python's reader says, in words."""


def read_bytes(path: Path, *, pipes: bool = False) -> bytes:
    """Read a file that lies in a data set.

    A pipe or a device, which may never give anything or never end, is refused; with ``pipes``, for what the
    user names, it is read too. Raises FileNotFoundError if there is no such file, DatasetError if it cannot
    be read.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or pipes):
            raise DatasetError(f"{path} cannot be read: it is a pipe, a socket or a device, and no file")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in its name
        raise DatasetError(f"{shown(os.fspath(path))} cannot be read: {error}") from error


def read_text(path: Path, *, pipes: bool = False) -> str:
    """Read a text file in UTF-8, UTF-16 or UTF-32; a byte order mark is taken off.

    Bytes that are not UTF-8 become lone surrogates, as Python has them in the names of files: a list written
    on a Latin-1 disk names its pictures. ``pipes`` and errors are those of :func:`read_bytes`.
    """
    data = read_bytes(path, pipes=pipes)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None:
        encoding = json.detect_encoding(data) if b"\0" in data[:4] else "utf-8"
    try:
        return data.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "strict")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} cannot be read as {encoding.upper()}: {error.reason}") from error


def read_json(path: Path, *, pipes: bool = False) -> Any:
    """Read a JSON file; with ``pipes`` also from a pipe.

    Raises DatasetError naming the file, and the line and column where it is broken, or the key that one
    object has twice with different values: Python would drop the first in silence.
    """
    try:
        return json.loads(read_text(path, pipes=pipes), object_pairs_hook=_each_key_once)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} cannot be read: there is no such file") from error
    except json.JSONDecodeError as error:
        at_end = not error.doc[error.pos :].strip()
        cut = (
            ": the file is cut off, or was not written to its end; copy or export it again" if at_end else ""
        )
        raise DatasetError(
            f"{path} cannot be read as JSON: line {error.lineno}, column {error.colno}: "
            f"{_WHAT_IS_WRONG.get(error.msg, error.msg)}{cut}"
        ) from error
    except RecursionError as error:
        raise DatasetError(f"{path} cannot be read as JSON: its brackets are nested too deeply") from error
    except _KeyTwiceError as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}") from error
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read as JSON: a number has thousands of digits") from error


class _KeyTwiceError(ValueError):
    pass


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for name, value in pairs:
            if value != found[name]:
                raise _KeyTwiceError(
                    f"an object has the key {name!r} twice, with different values: leave one of them"
                )
    return found


def printable(text: str) -> str:
    """Replace what cannot be encoded (bytes of a file name that is not UTF-8) by escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


Item = TypeVar("Item")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped. Raises DatasetError if it cannot be read."""
    return [line for line in all_lines(path) if line]


def all_lines(path: Path) -> list[str]:
    """The lines of a text file, also the blank ones, stripped; their numbers are those of an editor. Raises
    DatasetError if it cannot be read."""
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise DatasetError(f"list file {path} cannot be read: there is no such file") from error
    except DatasetError as error:
        raise DatasetError(f"list file {error}") from error
    return [line.strip() for line in re.split("\r\n|\r|\n", text)]  # names may hold other ends of lines


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
        """What a line names, None if it is nothing here. Raises DatasetError, naming the list file ``path``,
        if the line may name several."""
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
                candidates = [one for one in self._by_name.get(end.name, []) if _may_be(one[0], end)]
                if len(candidates) > 1:  # the path in the line tells which, as far as it goes
                    candidates = [one for one in candidates if _ends_with(one[0], end)] or candidates
                if len(candidates) > 1:
                    where = ", ".join(str(image) for image, _ in candidates[:3])
                    raise DatasetError(
                        f"{path} names {line!r}, which may be any of {where}: give more of its path"
                    )
                if candidates:
                    return candidates[0][1]
        return None


def listed(entries: Sequence[Entry], path: Path, log: ProblemLog) -> list[Entry]:
    """The entries that a list file names, in its order: one picture a line, further columns passed over.

    A picture is named by its id, the path of its file or the end of that path, with or without suffix. A
    line that names none of the entries is a problem, unless it is a comment (``#``). Raises DatasetError if
    the file cannot be read, names nothing, or names a picture by what is the name of several.
    """
    lines = read_lines(path)
    if not lines:
        raise DatasetError(f"list file {path} is empty: it must name one picture a line")
    names = ImageNames((entry.image_id, entry.image, entry) for entry in entries)
    found: dict[str, Entry] = {}  # by id: a picture that is listed twice is still one picture
    for line in lines:
        named = names.find(line, path)
        if named is not None:
            found.setdefault(named.image_id, named)
        elif not line.startswith("#"):
            log.report(line, "missing_image", f"{path} names this picture, which the data set does not have")
    return list(found.values())


def joined(path: Path) -> bool:
    """Whether a path is that of several pictures, whose lines came to be one (``a.jpg./b.jpg``): that its end
    names one of them is then no reason to pass over the others."""
    return any(
        suffix in part.lower() or (part.endswith(".") and part != "..")
        for part in path.parts[:-1]
        for suffix in IMAGE_SUFFIXES
    )


def plain(line: str) -> str:
    """What a line of a list is meant to name: without quotes, mark (``-1``) and suffix."""
    text = list(_spellings(line))[-1] if re.search(r"\s-?[01]$", line) or line[0] in "\"'" else line
    if has_image_suffix(text):
        text = str(without_suffix(Path(text)))
    return text


def _spellings(line: str) -> Iterator[str]:
    """What the name in a line may be, the likeliest first: a name may hold spaces, and further columns follow
    it."""
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
    """Whether the splits in two paths do not speak against one picture: train/a.jpg is not val/a.jpg."""
    splits = split_of(image.parent), split_of(end.parent)
    return None in splits or splits[0] == splits[1] or _ends_with(image, end)


def _ends_with(image: Path, end: Path) -> bool:
    count = len(end.parts)
    return image.parts[-count:] == end.parts or without_suffix(image).parts[-count:] == end.parts


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
