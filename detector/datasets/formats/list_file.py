"""List files: the pictures of a split, a line each, as people and programs write them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from detector.datasets.entries import Entry
from detector.datasets.formats.text_file import read_text
from detector.datasets.problems import ProblemLog
from detector.datasets.split_names import split_of
from detector.errors import DatasetError
from detector.io.image_paths import PICTURE_SUFFIXES, has_picture_suffix, without_suffix

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


class PictureNames(Generic[Item]):
    """Finds what a line of a list names: by its id, the path of its file or the end of that path, with or
    without suffix. Names are compared exactly: those that are only similar are other pictures."""

    def __init__(self, items: Iterable[tuple[str, Path, Item]]) -> None:
        self._by_id: dict[str, Item] = {}
        self._by_name: dict[str, list[tuple[Path, Item]]] = {}
        for image_id, picture, item in items:
            self._by_id.setdefault(image_id, item)
            for name in {picture.name, picture.stem}:
                self._by_name.setdefault(name, []).append((picture, item))

    def find(self, line: str, path: Path) -> Item | None:
        """What a line names, None if it is nothing here. Raises DatasetError, naming the list file ``path``,
        if the line may name several."""
        for text in _spellings(line):
            if text in self._by_id:
                return self._by_id[text]
            wanted = Path(text if "/" in text else text.replace("\\", "/"))
            ends = [Path(*(part for part in wanted.parts if part not in ("/", "..")))]
            if has_picture_suffix(wanted.name):
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
                    where = ", ".join(str(picture) for picture, _ in candidates[:3])
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
    names = PictureNames((entry.image_id, entry.picture, entry) for entry in entries)
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
        for suffix in PICTURE_SUFFIXES
    )


def plain(line: str) -> str:
    """What a line of a list is meant to name: without quotes, mark (``-1``) and suffix."""
    text = list(_spellings(line))[-1] if re.search(r"\s-?[01]$", line) or line[0] in "\"'" else line
    if has_picture_suffix(text):
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


def _may_be(picture: Path, end: Path) -> bool:
    """Whether the splits in two paths do not speak against one picture: train/a.jpg is not val/a.jpg."""
    splits = split_of(picture.parent), split_of(end.parent)
    return None in splits or splits[0] == splits[1] or _ends_with(picture, end)


def _ends_with(picture: Path, end: Path) -> bool:
    count = len(end.parts)
    return picture.parts[-count:] == end.parts or without_suffix(picture).parts[-count:] == end.parts
