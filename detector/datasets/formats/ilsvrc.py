"""Where the official ILSVRC download keeps its files: ``ILSVRC/{Data,Annotations,ImageSets}/TASK/...``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detector.datasets.formats.list_file import read_lines
from detector.errors import DatasetError, ParameterError

Task = Literal["DET", "CLS-LOC"]


@dataclass(frozen=True)
class IlsvrcLayout:
    """The files of one task. ``home`` is the ``ILSVRC`` folder itself."""

    home: Path
    task: Task

    @classmethod
    def find(cls, root: Path, task: Task) -> "IlsvrcLayout":
        """The layout below ``root``, the folder that holds ``ILSVRC`` or that folder itself.

        Raises DatasetError if the task's lists, pictures or annotations are not there.
        """
        home = root / "ILSVRC" if (root / "ILSVRC").is_dir() else root
        for part in ("ImageSets", "Data", "Annotations"):
            if not (home / part / task).is_dir():
                raise DatasetError(
                    f"{home / part / task} is missing: give the folder that holds ILSVRC/ as the official "
                    f"download lays it out (ILSVRC/Data, ILSVRC/Annotations, ILSVRC/ImageSets)"
                )
        return cls(home, task)

    def picture(self, split: str, image_id: str) -> Path:
        """The picture file of one line of a list."""
        return self.home / f"Data/{self.task}/{_folder(split)}/{image_id}.JPEG"

    def annotation(self, split: str, image_id: str) -> Path:
        """The annotation file of one line of a list."""
        return self.home / f"Annotations/{self.task}/{_folder(split)}/{image_id}.xml"

    def list_file(self, name: str) -> Path:
        """The list ``ImageSets/TASK/<name>.txt``."""
        return self.home / f"ImageSets/{self.task}/{name}.txt"

    def image_ids(self, name: str) -> list[str]:
        """The pictures of a list, in its order. Raises DatasetError if there is no such list, it is empty, or
        a line has more than a picture and its number."""
        path = self.list_file(name)
        found = [columns[0] for columns in picture_rows(path)]
        if not found:
            raise DatasetError(f"list file {path} is empty: it must name one picture a line")
        return found


def read_list(path: Path) -> list[list[str]]:
    """The columns of every line of a list file. Raises DatasetError if it cannot be read."""
    return [line.split() for line in read_lines(path)]


def picture_rows(path: Path) -> list[list[str]]:
    """The lines of an official list: a picture, and its number or mark.

    Raises DatasetError if it cannot be read, or a line has more: where an end of line was lost, a picture is.
    """
    rows = read_list(path)
    for row in rows:
        if len(row) > 2:
            line = " ".join(row)[:80]
            raise DatasetError(f"{path}: {line!r} is more than a picture and its number: give each its line")
    return rows


def _folder(split: str) -> str:
    """``val`` for ``val`` and its parts: R-CNN halves it into val1 and val2 (arXiv 1311.2524v5, 4.1)."""
    folder = split.rstrip("0123456789")
    if folder not in ("train", "val"):
        raise ParameterError(f"split must be train or val (or a numbered part: val1), got {split!r}")
    return folder
