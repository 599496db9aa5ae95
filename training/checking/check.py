"""Every check of a data set, split by split and across its splits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.datasets.annotated_image import Dataset
from detector.datasets.open import DataFolder
from detector.datasets.problems import Problem
from detector.datasets.split_names import Role, role_of
from detector.io.image_paths import has_image_suffix, is_system_file
from training.checking.findings import Finding, of_problem
from training.checking.images import Seen, near_duplicates, same_bytes, scan_images
from training.checking.records import Counts, check_boxes, check_classes


@dataclass(frozen=True)
class Checked:
    """A data set, what each of its splits holds, and all that was found."""

    folder: DataFolder
    counts: Mapping[str, Counts]
    findings: Sequence[Finding]

    @property
    def leaves_out(self) -> bool:
        """Whether a picture or an object is lost."""
        return any(finding.leaves_out for finding in self.findings)


def check_data(folder: DataFolder, splits: Sequence[str] = (), *, decoded: bool = True) -> Checked:
    """Look at everything in a data set.

    splits:
        Those to check, by name or as list files; by default all that are not a union or a part of others.
        The first that is for training, else the first, is what is learnt from.
    decoded:
        Decode every picture wholly, and look for near-duplicates. Without it headers and bytes are read.

    Raises DatasetError if a split cannot be read.
    """
    chosen = {_name(split): split for split in splits} or {split: split for split in whole_splits(folder)}
    read = {name: folder.read(split) for name, split in chosen.items()} or {"": folder.read()}
    counts = {split: Counts.of(dataset.records, folder.classes) for split, dataset in read.items()}
    train = next((split for split in read if role_of(split) is Role.TRAIN), next(iter(read)))
    findings = list(_of_problems(read))
    findings += _images(read, decoded)
    for split, dataset in read.items():
        findings += check_boxes(split, dataset.records, folder.classes)
    findings += check_classes(counts, train, folder.classes)
    if not splits:
        findings += _unlisted(folder)
    return Checked(folder, counts, findings)


def whole_splits(folder: DataFolder) -> list[str]:
    """Return the splits without unions (trainval) and numbered parts (val1) of others, whose pictures are
    theirs."""
    roles = {split: role_of(split) for split in folder.splits}
    kept: dict[Role | None, str] = {}
    for split, role in roles.items():
        if role is None:
            kept.setdefault(role, split)
        elif role not in kept or kept[role].startswith("trainval"):
            kept[role] = split
    return [split for split, role in roles.items() if role is None or kept[role] == split]


def _of_problems(read: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Return what reading each split has told; what it tells of the whole folder, once and of no split."""
    whole: set[Problem] = set()
    for split, dataset in read.items():
        for problem in dataset.problems:
            if problem.kind != "unread_kind":
                yield of_problem(problem, split)
            elif problem not in whole:
                whole.add(problem)
                yield of_problem(problem, "")


def _name(split: str) -> str:
    return Path(split).stem if Path(split).suffix else split


def _images(read: Mapping[str, Dataset], decoded: bool) -> Iterator[Finding]:
    """Yield pictures that cannot be decoded, and those that are there twice."""
    owned = [(split, record) for split, dataset in read.items() for record in dataset.records]
    first: dict[Path, int] = {}
    for index, (_, record) in enumerate(owned):
        first.setdefault(record.path, index)
    at = list(first.values())
    seen: list[Seen] = []
    for index, picture in zip(at, scan_images(list(first), decoded=decoded), strict=True):
        seen.append(picture)
        if picture.error:
            split, record = owned[index]
            yield Finding("unreadable_image", split, record.image_id, picture.error)
    pairs = [("duplicate", first[record.path], i) for i, (_, record) in enumerate(owned)]
    pairs = [(kind, a, b) for kind, a, b in pairs if a != b]  # one file, listed by two splits
    pairs += [("duplicate", at[a], at[b]) for a, b in same_bytes(seen)]
    pairs += [("near_duplicate", at[a], at[b]) for a, b in near_duplicates(seen)]
    for kind, a, b in pairs:
        (split, original), (other_split, copy) = owned[a], owned[b]
        like = "the same picture as" if kind == "duplicate" else "nearly the same picture as"
        message = f"{copy.path} is {like} {original.path}"
        if split != other_split:
            name, message = f"{kind}_across_splits", f"{message} of {split}"
        else:
            name = "duplicate_picture" if kind == "duplicate" else kind
        yield Finding(name, other_split, copy.image_id, message)


def _unlisted(folder: DataFolder) -> Iterator[Finding]:
    """Yield pictures that the data set does not list, in the folders of those that it does."""
    listed = {entry.image for entry in folder.layout.entries(None)}
    for place in sorted({image.parent for image in listed}):
        for path in sorted(place.iterdir() if place.is_dir() else ()):
            if has_image_suffix(path) and not is_system_file(path.name) and path not in listed:
                yield Finding("unlisted_picture", "", path.stem, f"{path} has no annotation")
