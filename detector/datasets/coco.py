"""Reader of COCO's instances files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.boxes import Boxes
from detector.classes import ClassList
from detector.datasets.entries import Entry, read_entries
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.record import Dataset, Record
from detector.datasets.record_check import RecordCheck, Said
from detector.errors import DatasetError, ParameterError

Number = int | str  # what a file calls its pictures and categories; COCO itself counts


@dataclass(frozen=True)
class CocoFile:
    """What one instances file says, as it says it, without outlines and crowds.

    ``categories`` maps ids to names in the order of the ids, ``supercategories`` names to those above them;
    ``objects`` maps a picture's id to the category and ``bbox`` of each of its objects.
    """

    path: Path
    images: Sequence[Mapping[str, Any]]
    categories: Mapping[Number, str]
    supercategories: Mapping[str, str]
    objects: Mapping[Number, Sequence[tuple[Number, Any]]]

    @classmethod
    def load(cls, path: Path) -> "CocoFile":
        """Read a file. Raises DatasetError if it is no instances file."""
        file = _read(path)
        try:
            images = file["images"]
            entries = sorted(file["categories"], key=_id)
            categories = {entry["id"]: str(entry["name"]) for entry in entries}
            above = {str(entry["name"]): str(entry.get("supercategory", "")) for entry in entries}
            objects: dict[Number, list[tuple[Number, Any]]] = {entry["id"]: [] for entry in images}
            for one in file["annotations"]:
                if not one.get("iscrowd", 0):
                    mine = objects.setdefault(one["image_id"], [])
                    mine.append((one["category_id"], one.get("bbox")))
            if not all(isinstance(entry["file_name"], str) for entry in images):
                raise TypeError("a file_name that is no text")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{path} is no instances file of COCO: it lacks or garbles {error}") from error
        return cls(path, images, categories, above, objects)

    def class_list(self) -> ClassList:
        """All categories in the order of their ids. Raises DatasetError if two have the same name."""
        try:
            return ClassList.of(self.categories.values())
        except ParameterError as error:
            raise DatasetError(f"{self.path}: {error}: give every category a name of its own") from error

    def entries(self, images: Path, classes: ClassList) -> list[Entry]:
        """The pictures of the file, which lie in the folder ``images``, in its order."""
        labels = classes.index()
        return [self._entry(image, images / image["file_name"], labels) for image in self.images]

    def unlisted(self, log: ProblemLog) -> None:
        """Report pictures that have objects but are not listed."""
        listed = {image["id"] for image in self.images}
        for number in self.objects:
            if number not in listed:
                message = f"{self.path} has objects of a picture it does not list"
                log.report(str(number), "missing_image", message)

    def _entry(self, image: Mapping[str, Any], picture: Path, labels: Mapping[str, int]) -> Entry:
        image_id = str(image["id"])

        def read(log: ProblemLog, check_pictures: bool) -> Record | None:
            mine = self.objects[image["id"]]
            names = [self.categories.get(number, f"category {number}") for number, _ in mine]
            try:
                said = Said(image["width"], image["height"], names, _boxes([bbox for _, bbox in mine]))
            except (KeyError, TypeError, ValueError) as error:
                log.report(image_id, "unreadable_annotation", f"{self.path} lacks or garbles {error}")
                return None
            return RecordCheck(labels, log, check_pictures).record(image_id, picture, said)

        return Entry(image_id, picture, read)


def read_coco(
    annotations: Path,
    images: Path,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_pictures: bool = True,
) -> Dataset:
    """Read one instances file (``instances_val2017.json``) and the folder of its pictures.

    Records come in the file's order; an ``image_id`` is COCO's number as text. A file's box is x, y, width
    and height, continuous as ours are. Annotations with ``iscrowd`` are left out: each is a box around many
    objects, which none of them fills.

    classes:
        The classes to read, by COCO's names; by default all categories of the file in the order of their
        ids. Objects of others are problems.
    on_problem, check_pictures:
        As for :func:`detector.datasets.ilsvrc_det.read_ilsvrc_det`.

    Raises DatasetError if the file is no instances file, or at the first problem with ``OnProblem.STOP``.
    """
    file = CocoFile.load(annotations)
    classes = file.class_list() if classes is None else classes
    log = ProblemLog(on_problem)
    records = read_entries(file.entries(images, classes), log, check_pictures)
    file.unlisted(log)
    return Dataset(records, list(classes.ids), log.problems)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def _id(entry: Mapping[str, Any]) -> Any:
    return entry["id"]


def _boxes(xywh: Sequence[Sequence[float]]) -> Boxes:
    array = np.array(xywh, np.float64)
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise ValueError("bbox, which must be four finite numbers")
    array[:, 2:] += array[:, :2]
    return array.astype(np.float32)
