"""The ILSVRC detection task as one data set of several splits."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detector.datasets.entries import Entry, once
from detector.datasets.formats.ilsvrc import IlsvrcLayout
from detector.datasets.formats.ilsvrc_det import det_image_ids, read_det_picture
from detector.datasets.problems import ProblemLog
from detector.datasets.split_names import Role, in_order, role_of
from detector.errors import DatasetError
from detector.structures.classes import ClassList, ilsvrc_det


@dataclass(frozen=True)
class IlsvrcFolder:
    """The lists of ImageSets/DET whose pictures have annotations: train, val, and parts of them (val1)."""

    layout: IlsvrcLayout
    splits: tuple[str, ...]
    classes: ClassList

    @classmethod
    def find(cls, root: Path) -> "IlsvrcFolder | None":
        """The data set at or in ``root``, None if it is not laid out there.

        Raises DatasetError if its lists are there, but not the pictures or annotations.
        """
        try:
            layout = IlsvrcLayout.find(root, "DET")
        except DatasetError:
            if any((home / "ImageSets/DET").is_dir() for home in (root, root / "ILSVRC")):
                raise
            return None
        names = {path.stem for path in (layout.home / "ImageSets/DET").glob("*.txt")}
        if "train_1" in names:  # the official lists by class, train_1 to train_200, are one list
            names = {name for name in names if not name.startswith("train_")} | {"train"}
        splits = in_order(name for name in names if role_of(name) in (Role.TRAIN, Role.VAL))
        return cls(layout, splits, ilsvrc_det()) if splits else None

    def entries(self, split: str | None) -> list[Entry]:
        """As :meth:`detector.datasets.entries.Layout.entries`; train pictures are ``partial``."""
        chosen = self.splits if split is None else (split,)
        labels = self.classes.index()
        return once(
            Entry(
                image_id,
                self.layout.picture(name, image_id),
                partial(read_det_picture, self.layout, name, labels, image_id),
            )
            for name in chosen
            for image_id in det_image_ids(self.layout, name)
        )

    def strays(self, split: str | None, log: ProblemLog) -> None:
        """Nothing: the lists name pictures, and what no list names is not of the data set."""
