"""What every layout of a data set comes down to: the pictures that it lists, by split."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from detector.classes import ClassList
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.record import Problem, Record
from detector.errors import DatasetError

THREADS = 8
"""Reading waits for the disk or the network far more than for the processor."""

_CHUNK = 64  # pictures a task: enough that handing them out costs nothing


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture that a data set lists.

    ``read`` gives its record, or None where it had to be left out; what is wrong it tells the log. Its
    second argument is ``check_pictures`` (:class:`detector.datasets.record_check.RecordCheck`). It is called
    from several threads, each with a log of its own.
    """

    image_id: str
    picture: Path
    read: Callable[[ProblemLog, bool], Record | None]


class Layout(Protocol):
    """One data set in one layout. ``splits`` is empty where the data set is all of one piece."""

    @property
    def classes(self) -> ClassList: ...

    @property
    def splits(self) -> tuple[str, ...]: ...

    def entries(self, split: str | None) -> Sequence[Entry]:
        """The pictures of a split in its order; None: every picture of the data set, once."""


def read_entries(entries: Sequence[Entry], log: ProblemLog, check_pictures: bool) -> list[Record]:
    """The records of all entries in their order, read on several threads; problems come in that order too.

    Raises DatasetError at the first problem where ``log`` says STOP.
    """

    def read(chunk: Sequence[Entry]) -> list[tuple[Record | None, list[Problem]]]:
        found = []
        for entry in chunk:
            mine = ProblemLog(OnProblem.REPORT)
            found.append((entry.read(mine, check_pictures), mine.problems))
        return found

    records = []
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="reader")
    try:
        chunks = (entries[start : start + _CHUNK] for start in range(0, len(entries), _CHUNK))
        for chunk in pool.map(read, chunks):
            for record, problems in chunk:
                for problem in problems:
                    log.report(problem.image_id, problem.kind, problem.message)
                if record is not None:
                    records.append(record)
    finally:
        pool.shutdown(cancel_futures=True)
    return records


def once(entries: Iterable[Entry]) -> list[Entry]:
    """The entries without those whose picture came before: splits may share pictures."""
    found: dict[Path, Entry] = {}
    for entry in entries:
        found.setdefault(entry.picture, entry)
    return list(found.values())


def listed(entries: Sequence[Entry], path: Path, log: ProblemLog) -> list[Entry]:
    """The entries that a list file names, in its order: one picture a line, further columns passed over.

    A picture is named by its id, the path of its file or the end of that path, with or without suffix. A
    line that names none of the entries is a problem. Raises DatasetError if the file cannot be read, names
    nothing, or names a picture by what is the name of several.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"list file {path} cannot be read: {error}") from error
    by_id = {entry.image_id: entry for entry in entries}
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in {entry.picture.name, entry.picture.stem}:
            by_name.setdefault(name, []).append(entry)
    found: dict[str, Entry] = {}  # by id: a picture that is listed twice is still one picture
    for line in filter(None, lines):
        named = _named(line, by_id, by_name, path)
        if named is None:
            log.report(line, "missing_image", f"{path} names this picture, which the data set does not have")
        else:
            found.setdefault(named.image_id, named)
    if not any(lines):
        raise DatasetError(f"list file {path} is empty: it must name one picture a line")
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
