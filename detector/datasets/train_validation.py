"""What to train on and what to hold out: the data set's own splits, or a part that never changes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.open import DataFolder
from detector.datasets.problems import OnProblem
from detector.datasets.split_names import Role, role_of
from detector.errors import DatasetError, ParameterError

SHARE = 0.2
"""Of a data set without splits, so much is held out."""


@dataclass(frozen=True)
class Split:
    """Pictures to learn from, pictures to choose and measure by, and how they were parted, in words."""

    train: Dataset
    validation: Dataset
    how: str


def train_and_validation(
    folder: DataFolder,
    share: float = SHARE,
    *,
    train: str | Path | None = None,
    validation: str | Path | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: bool = True,
) -> Split:
    """Read what to train on and what to hold out.

    The data set's own train and val, or else test, where it has both; else :func:`hold_out` takes the share
    of train, or of every picture. ``train`` and ``validation`` choose a split or a list file instead, as
    :meth:`DataFolder.read` takes them. A picture of both is only held out.

    Raises DatasetError if a split cannot be read or has no object, ParameterError for a share not between 0
    and 1.
    """

    if train is None and validation is None:
        train, validation, why = _own(folder)
    elif train is None:
        train, _, why = _own(folder)
        if train is None:
            raise DatasetError(
                f"{folder.root} has no train split: say what to train on, beside what to hold out"
            )
    else:
        why = f"nothing was named to hold out beside {train}"
    first = folder.read(train, on_problem=on_problem, check_images=check_images)
    if validation is None:
        return _parted(first, share, why)
    second = folder.read(validation, on_problem=on_problem, check_images=check_images)
    # Those of the folder are told once.
    of_all = [problem for problem in first.problems if problem.kind == "unread_kind"]
    second = replace(second, problems=[problem for problem in second.problems if problem not in of_all])
    first, shared = _without(first, second)
    for split, dataset in ((train, first), (validation, second)):
        if not any(len(record.boxes) for record in dataset.records):
            raise DatasetError(
                f"{split} of {folder.root} has no picture with an object: correct it (check_data.py lists "
                "every problem), or name other splits or list files"
            )
    how = f"{train} to train on, {validation} held out"
    return Split(first, second, how + (f" ({shared} pictures of both only held out)" if shared else ""))


def validation_split(folder: DataFolder) -> str | None:
    """Choose what to measure on where nobody says: the first validation split, else test, else all (None)."""
    for role in (Role.VAL, Role.TEST):
        for split in folder.splits:
            if role_of(split) is role:
                return split
    return None


def hold_out(
    records: Sequence[AnnotatedImage], share: float = SHARE
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Part records into those to learn from and those held out, each in the order given.

    Pictures are ranked by a digest of their ids, and the first ``share`` of them is held out: which, does not
    depend on their order, and a picture more changes it by one at most. Copies that Roboflow made of one
    picture (``NAME.rf.HASH``) stay together. Of a class that would be left without a picture to learn from,
    one comes back.

    Raises ParameterError for a share not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ParameterError(f"the share held out must lie between 0 and 1, got {share}")
    sources: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        sources.setdefault(_source(record), []).append(index)
    ranked = sorted(sources, key=lambda source: (_digest(source), source))
    wanted = max(1, round(share * len(records))) if len(sources) > 1 else 0
    held: list[str] = []
    count = 0
    for source in ranked:
        if count >= wanted:
            break
        held.append(source)
        count += len(sources[source])
    classes = {source: _classes(records[index] for index in numbers) for source, numbers in sources.items()}
    left = Counter(label for source in ranked[len(held) :] for label in classes[source])
    kept_out = []
    for source in reversed(held):  # the last to be held out is the first to come back
        if all(left[label] for label in classes[source]):
            kept_out.append(source)
        else:
            left.update(classes[source])
    out = {index for source in kept_out for index in sources[source]}
    return (
        [record for index, record in enumerate(records) if index not in out],
        [record for index, record in enumerate(records) if index in out],
    )


def _own(folder: DataFolder) -> tuple[str | None, str | None, str]:
    """Return the data set's own splits to train on and to hold out, and why where there is none of them.

    PASCAL VOC's trainval holds its val: beside it only test is apart.
    """

    def first(role: Role, whole: bool = False) -> str | None:
        names = (name for name in folder.splits if role_of(name) is role)
        return next((name for name in names if name.startswith("trainval") == whole), None)

    train, both = first(Role.TRAIN), first(Role.TRAIN, whole=True)
    val, test = first(Role.VAL), first(Role.TEST)
    if train is not None and val is not None:
        return train, val, ""
    learnt = both or train
    if learnt is None:
        return None, None, "the data set has no splits of its own to train on"
    return learnt, test, f"the data set has only {learnt}"


def _parted(dataset: Dataset, share: float, why: str) -> Split:
    train, validation = hold_out(dataset.records, share)
    how = f"{len(validation)} of {len(dataset.records)} pictures held out by a digest of their names: {why}"
    return Split(replace(dataset, records=train), Dataset(validation, dataset.class_ids), how)


def _without(train: Dataset, validation: Dataset) -> tuple[Dataset, int]:
    """Return what to train on without the pictures that are held out, and how many these were."""
    out = {record.path for record in validation.records}
    records = [record for record in train.records if record.path not in out]
    return replace(train, records=records), len(train.records) - len(records)


def _source(record: AnnotatedImage) -> str:
    """Return what a picture is told apart by: its id, or the name before ``.rf.`` that copies have in
    common."""
    name, mark, _ = record.path.stem.partition(".rf.")
    return name if mark else record.image_id


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _classes(records: Iterable[AnnotatedImage]) -> set[int]:
    return {int(label) for record in records for label in record.labels}
