"""List files: the pictures of a split, a line each, as people and programs write them."""

from collections.abc import Sequence
from pathlib import Path

from detector.datasets.entries import Entry
from detector.datasets.problems import ProblemLog
from detector.errors import DatasetError


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped. Raises DatasetError if it cannot be read."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    return [line for line in lines if line]


def listed(entries: Sequence[Entry], path: Path, log: ProblemLog) -> list[Entry]:
    """The entries that a list file names, in its order: one picture a line, further columns passed over.

    A picture is named by its id, the path of its file or the end of that path, with or without suffix. A
    line that names none of the entries is a problem. Raises DatasetError if the file cannot be read, names
    nothing, or names a picture by what is the name of several.
    """
    lines = read_lines(path)
    if not lines:
        raise DatasetError(f"list file {path} is empty: it must name one picture a line")
    by_id = {entry.image_id: entry for entry in entries}
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in {entry.picture.name, entry.picture.stem}:
            by_name.setdefault(name, []).append(entry)
    found: dict[str, Entry] = {}  # by id: a picture that is listed twice is still one picture
    for line in lines:
        named = _named(line, by_id, by_name, path)
        if named is None:
            log.report(line, "missing_image", f"{path} names this picture, which the data set does not have")
        else:
            found.setdefault(named.image_id, named)
    return list(found.values())


def _named(line: str, by_id: dict[str, Entry], by_name: dict[str, list[Entry]], path: Path) -> Entry | None:
    for text in (line, line.split()[0]):  # a name may hold spaces
        if text in by_id:
            return by_id[text]
        wanted = Path(text)
        for name in (wanted.name, wanted.stem):
            candidates = by_name.get(name, [])
            if len(candidates) > 1:
                # The path in the line tells which, as far as it goes.
                end = Path(*(part for part in wanted.parts if part not in ("/", "..")))
                ends = (end, end.with_suffix(""))
                candidates = [
                    entry for entry in candidates if any(_ends_with(entry.picture, part) for part in ends)
                ] or candidates
            if len(candidates) > 1:
                where = ", ".join(str(entry.picture) for entry in candidates[:3])
                raise DatasetError(
                    f"{path} names {line!r}, which may be any of {where}: give more of its path"
                )
            if candidates:
                return candidates[0]
    return None


def _ends_with(picture: Path, end: Path) -> bool:
    count = len(end.parts)
    return picture.parts[-count:] == end.parts or picture.with_suffix("").parts[-count:] == end.parts
