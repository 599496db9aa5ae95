"""The interface of a layout: a data set as the entries of its splits, and how these are read."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.problems import OnProblem, Problem, ProblemLog
from detector.structures.classes import ClassList

THREADS = 8
"""Reading waits for the disk or the network far more than for the processor."""

_CHUNK = 64  # entries a task: enough that handing them out costs nothing


@dataclass(frozen=True, slots=True)
class Entry:
    """One image that a data set lists.

    ``read`` returns the annotated image, or None where it is left out, and reports what is wrong to the log.
    Its second argument is ``check_images`` (:class:`detector.datasets.annotation_check.AnnotationCheck`). It
    is called from several threads, each with a log of its own.
    """

    image_id: str
    image: Path
    read: Callable[[ProblemLog, ImageCheck], AnnotatedImage | None]


class Layout(Protocol):
    """One data set in one layout. ``splits`` is empty where the data set is of one piece."""

    @property
    def classes(self) -> ClassList: ...

    @property
    def splits(self) -> tuple[str, ...]: ...

    def entries(self, split: str | None) -> Sequence[Entry]:
        """List the images of a split in its order; for None every image of the data set, once."""

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Report annotations of a split that belong to none of its images."""


def read_layout(
    layout: Layout,
    split: str | None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: ImageCheck = True,
) -> Dataset:
    """Read the entries of a split, and report the annotations that belong to none of them.

    Raises DatasetError at the first problem with ``OnProblem.STOP``.
    """
    log = ProblemLog(on_problem)
    records = read_entries(layout.entries(split), log, check_images)
    layout.unmatched_annotations(split, log)
    return Dataset(records, list(layout.classes.ids), log.problems)


def read_entries(entries: Sequence[Entry], log: ProblemLog, check_images: ImageCheck) -> list[AnnotatedImage]:
    """Read entries on several threads; images and problems come in the order of the entries.

    Raises DatasetError at the first problem where ``log`` is to stop.
    """

    def read(chunk: Sequence[Entry]) -> list[tuple[AnnotatedImage | None, list[Problem]]]:
        results = []
        for entry in chunk:
            own_log = ProblemLog(OnProblem.REPORT)
            results.append((entry.read(own_log, check_images), own_log.problems))
        return results

    records = []
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="reader")
    try:
        chunks = (entries[start : start + _CHUNK] for start in range(0, len(entries), _CHUNK))
        for results in pool.map(read, chunks):
            for record, problems in results:
                for problem in problems:
                    log.report(problem.image_id, problem.kind, problem.message)
                if record is not None:
                    records.append(record)
    finally:
        pool.shutdown(cancel_futures=True)
    return records


def once(entries: Iterable[Entry]) -> list[Entry]:
    """Drop entries whose image came before: splits may share images."""
    first: dict[Path, Entry] = {}
    for entry in entries:
        first.setdefault(entry.image, entry)
    return list(first.values())
