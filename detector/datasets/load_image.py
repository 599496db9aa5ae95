"""Pictures of a data set as pixels: a file whose header is fine may be cut off, change or vanish later."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from detector.datasets.annotated_image import AnnotatedImage, Dataset, LabelledDataset
from detector.datasets.layout import THREADS
from detector.datasets.problems import OnProblem, ProblemLog
from detector.errors import DatasetError, ImageError
from detector.io.decoding import RGB, load

TOLERATED = 10
"""So many unreadable pictures may be any part of a set. Of more, they may be half of it at most: beyond that
something is wrong with the disk or the copy, and not with pictures."""

_CHUNK = 16  # pictures a task


def load_image(record: AnnotatedImage) -> RGB:
    """Decode the picture of a record: upright RGB, uint8 [H,W,3], of the size that the record states.

    Raises ImageError where the file cannot be opened or decoded, or has another size by now: the record's
    boxes would lie elsewhere.
    """
    return _load(record.path, (record.width, record.height))


def without_unreadable(dataset: Dataset, on_problem: OnProblem = OnProblem.REPORT) -> Dataset:
    """Decode every image on several threads, and leave out those that fail (``unreadable_image``).

    Raises DatasetError at the first one where ``on_problem`` says STOP, or if most of many cannot be read.
    """
    records = dataset.records
    broken = unreadable([(record.path, (record.width, record.height)) for record in records])
    log = ProblemLog(on_problem)
    for index, why in broken.items():
        log.report(records[index].image_id, "unreadable_image", why)
    kept = [record for index, record in enumerate(records) if index not in broken]
    return replace(dataset, records=kept, problems=[*dataset.problems, *log.problems])


def labelled_without_unreadable(
    dataset: LabelledDataset, on_problem: OnProblem = OnProblem.REPORT
) -> LabelledDataset:
    """Decode every labelled image and leave out those that fail; as :func:`without_unreadable`."""
    images = dataset.images
    broken = unreadable([(image.path, None) for image in images])
    log = ProblemLog(on_problem)
    for index, why in broken.items():
        log.report(images[index].image_id, "unreadable_image", why)
    kept = [image for index, image in enumerate(images) if index not in broken]
    return replace(dataset, images=kept, problems=[*dataset.problems, *log.problems])


def unreadable(images: Sequence[tuple[Path, tuple[int, int] | None]]) -> dict[int, str]:
    """Decode pictures, given by path and, where it is known, (width, height); say which fail, and why.

    Raises DatasetError if more than :data:`TOLERATED` and more than half of them do.
    """

    def look(chunk: Sequence[tuple[Path, tuple[int, int] | None]]) -> list[str]:
        return [_why_unreadable(path, size) for path, size in chunk]

    broken: dict[int, str] = {}
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")
    try:
        with tqdm(total=len(images), desc="checking pictures", unit="picture", disable=None) as bar:
            for start, found in zip(range(0, len(images), _CHUNK), pool.map(look, chunks), strict=True):
                broken |= {start + place: why for place, why in enumerate(found) if why}
                bar.update(len(found))
    finally:
        pool.shutdown(cancel_futures=True)
    if len(broken) > tolerated(len(images)):
        raise DatasetError(
            f"{len(broken)} of {len(images)} pictures cannot be read ({next(iter(broken.values()))}): is "
            "the disk there, and the copy whole? Mend them, or take them out of the data set"
        )
    return broken


def tolerated(images: int) -> int:
    """Return how many of ``images`` may be unreadable before a run stops: ten, or half of them."""
    return max(TOLERATED, images // 2)


def _load(path: Path, size: tuple[int, int] | None) -> RGB:
    try:
        image = load(path)
    except OSError as error:
        raise ImageError("unreadable", f"{path}: {error.strerror or error}") from error
    height, width = image.shape[:2]
    if size is not None and (width, height) != size:
        raise ImageError(
            "unreadable",
            f"{path}: has {width} x {height} pixels now, and {size[0]} x {size[1]} when it was listed",
        )
    return image


def _why_unreadable(path: Path, size: tuple[int, int] | None) -> str:
    """Return the reason in words; empty for a picture that is whole."""
    try:
        _load(path, size)
    except ImageError as error:
        return str(error)
    return ""
