"""The interface of a layout: a data set as the entries of its splits, and how entries are read."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.problems import OnProblem, Problem, ProblemLog
from detector.structures.classes import ClassList

THREADS = 8
"""Reading waits for the disk or the network far more than for the processor."""


_CHUNK = 64  # pictures a task: enough that handing them out costs nothing


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture that a data set lists.

    ``read`` gives the annotated image, or None where it had to be left out; problems go to the log. Its
    second argument is ``check_images`` (:class:`detector.datasets.annotation_check.AnnotationCheck`). It is
    called from several threads, each with a log of its own.
    """

    image_id: str
    image: Path
    read: Callable[[ProblemLog, ImageCheck], AnnotatedImage | None]


class Layout(Protocol):
    """One data set in one layout. ``splits`` is empty where the data set is all of one piece."""

    @property
    def classes(self) -> ClassList: ...

    @property
    def splits(self) -> tuple[str, ...]: ...

    def entries(self, split: str | None) -> Sequence[Entry]:
        """The pictures of a split in its order; None: every picture of the data set, once."""

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Report annotations of a split that belong to none of its pictures."""


def read_entries(entries: Sequence[Entry], log: ProblemLog, check_images: ImageCheck) -> list[AnnotatedImage]:
    """The records of all entries in their order, read on several threads; problems come in that order too.

    Raises DatasetError at the first problem where ``log`` says STOP.
    """

    def read(chunk: Sequence[Entry]) -> list[tuple[AnnotatedImage | None, list[Problem]]]:
        found = []
        for entry in chunk:
            mine = ProblemLog(OnProblem.REPORT)
            found.append((entry.read(mine, check_images), mine.problems))
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
        found.setdefault(entry.image, entry)
    return list(found.values())
