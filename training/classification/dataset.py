"""Labelled images to train and measure a classifier on, and a list of them that stays small.

They come from ILSVRC's CLS-LOC layout, or from one folder a class.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from detector.datasets.formats.ilsvrc import IlsvrcLayout
from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_cls
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from detector.io.image_paths import images_below, is_system_file, unread_kinds
from detector.structures.classes import ClassList, ilsvrc_cls


class ImageList:
    """Paths and labels of N pictures, in three arrays: some 60 bytes a picture.

    A list of objects would take ten times that, and once more in each process that reads pictures: counting
    references writes to memory that a fork had shared.
    """

    def __init__(self, root: Path, images: Iterable[tuple[str, int]]) -> None:
        """``images``: each one's path below ``root``, with forward slashes, and its label."""
        names, labels = bytearray(), []
        ends = [0]
        for name, label in images:
            names += os.fsencode(name)  # a name need not be UTF-8
            ends.append(len(names))
            labels.append(label)
        self.root = root
        self.labels: NDArray[np.int32] = np.array(labels, np.int32)
        self._names = np.frombuffer(bytes(names), np.uint8)
        self._ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return the path of a picture below the root."""
        return os.fsdecode(self._names[self._ends[index] : self._ends[index + 1]].tobytes())

    def path(self, index: int) -> Path:
        """Return where a picture lies."""
        return self.root / self.name(index)

    def chosen(self, indices: Iterable[int]) -> "ImageList":
        """Return some of the pictures, in the order given."""
        return ImageList(self.root, ((self.name(index), int(self.labels[index])) for index in indices))

    def of_few_classes(self, count: int) -> "ImageList":
        """Return ``count`` pictures of as few classes as can be: the most frequent classes first."""
        frequency = np.bincount(self.labels)[self.labels]
        return self.chosen(np.lexsort((self.labels, -frequency))[:count])

    def digest(self) -> bytes:
        """Return what tells this list from others, wherever it lies."""
        parts = (self._names, self._ends, self.labels)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()


_HELD_OUT = 10
"""One picture in so many is measured, and not learnt, where a set has no part for it."""


@dataclass(frozen=True)
class LabelledImages:
    """Two lists of pictures without one in common, and the classes that they are of.

    ``how`` says in words how they were parted, ``notes`` what was left out and why.
    """

    classes: ClassList
    train: ImageList
    val: ImageList
    how: str
    notes: list[str] = field(default_factory=list)


def read_labelled_images(root: Path, *, on_problem: OnProblem = OnProblem.REPORT) -> LabelledImages:
    """Read ILSVRC CLS-LOC in its official layout (below ``root`` or ``root/ILSVRC``), or one folder a class.

    The latter is ROOT/train/CLASS/*.jpg with ROOT/val/CLASS/*.jpg, or ROOT/CLASS/*.jpg, of which every tenth
    picture is held out, chosen by a digest of its name. Pictures are not opened: with a million of them that
    takes an hour, and a broken one is met in training anyhow.

    Raises DatasetError, saying what was looked for, where there is neither or where a part is empty.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder; give the one that holds ILSVRC/, or one folder a class")
    if (root / "ILSVRC").is_dir() or (root / "ImageSets" / "CLS-LOC").is_dir():
        found = _ilsvrc(root, on_problem)
    else:
        found = _folders(root)
    for part, images in (("train", found.train), ("measure", found.val)):
        if not len(images):
            raise DatasetError(f"{root}: there is no picture to {part} on ({found.how})")
    return found


def _ilsvrc(root: Path, on_problem: OnProblem) -> LabelledImages:
    home = IlsvrcLayout.find(root, "CLS-LOC").home
    train, val = (
        read_ilsvrc_cls(root, split, on_problem=on_problem, check_images=False) for split in ("train", "val")
    )
    problems = [*train.problems, *val.problems]
    notes = list(map(str, problems))
    measured = {PurePosixPath(image.image_id).name for image in val.images}
    learnt = [image for image in train.images if PurePosixPath(image.image_id).name not in measured]
    if len(learnt) < len(train.images):
        both = len(train.images) - len(learnt)
        notes.append(f"{both} pictures of train also stand in val: they are measured, and not learnt")
    return LabelledImages(
        ilsvrc_cls(),
        ImageList(home, ((image.path.relative_to(home).as_posix(), image.label) for image in learnt)),
        ImageList(home, ((image.path.relative_to(home).as_posix(), image.label) for image in val.images)),
        "ILSVRC CLS-LOC, its train and val",
        notes,
    )


def _folders(root: Path) -> LabelledImages:
    parted = (root / "train").is_dir() and (root / "val").is_dir()
    unread: dict[Path, None] = {}
    classes = _folders_in(root / "train" if parted else root, unread)
    if not classes:
        raise DatasetError(
            f"{root} holds neither ILSVRC/ (ImageSets/CLS-LOC) nor one folder of pictures a class: "
            "ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg, or ROOT/CLASS/*.jpg"
            + (f"; {unread_kinds(list(unread))}" if unread else "")
        )
    if parted:
        unknown = sorted(set(_folders_in(root / "val", unread)) - set(classes))
        if unknown:
            raise DatasetError(f"{root / 'val'} has classes that train lacks: {', '.join(unknown[:5])}")
        train, val = (list(_images(root, part, classes, unread)) for part in ("train", "val"))
        how = "its train and val"
    else:
        every = list(_images(root, "", classes, unread))
        train = [image for image in every if not _held_out(image[0])]
        val = [image for image in every if _held_out(image[0])]
        how = f"one picture in {_HELD_OUT} held out, by a digest of its name"
    notes = [f"{root}: {unread_kinds(list(unread))}"] if unread else []
    return LabelledImages(ClassList.of(classes), ImageList(root, train), ImageList(root, val), how, notes)


def _images(root: Path, part: str, classes: list[str], unread: dict[Path, None]) -> Iterator[tuple[str, int]]:
    for label, name in enumerate(classes):
        folder = root / part / name  # a class of train need not be in val
        for path in sorted(images_below(folder, on_unread=unread.setdefault) if folder.is_dir() else ()):
            yield path.relative_to(root).as_posix(), label


def _folders_in(folder: Path, unread: dict[Path, None]) -> list[str]:
    """Return the names of its folders that hold a picture, in order. ``unread`` takes what those of the
    others hold that is no picture only for its kind."""
    return sorted(
        child.name
        for child in folder.iterdir()
        if not is_system_file(child.name)
        and child.is_dir()
        and any(True for _ in images_below(child, on_unread=unread.setdefault))
    )


def _held_out(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8]) % _HELD_OUT == 0
