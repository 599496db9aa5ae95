"""Reader of COCO's instances files."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.boxes import Boxes
from detector.classes import ClassList
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.record import Dataset
from detector.datasets.record_check import RecordCheck, Said
from detector.errors import DatasetError


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
    file = _read(annotations)
    try:
        names = {entry["id"]: str(entry["name"]) for entry in sorted(file["categories"], key=_id)}
        classes = ClassList.of(names.values()) if classes is None else classes
        log = ProblemLog(on_problem)
        check = RecordCheck(classes.index(), log, check_pictures)
        objects = _by_picture(file["annotations"])
        records = []
        for entry in file["images"]:
            image_id = str(entry["id"])
            mine = objects.pop(entry["id"], [])
            try:
                labels = [names.get(one["category_id"], f"category {one['category_id']}") for one in mine]
                said = Said(entry["width"], entry["height"], labels, _boxes([one["bbox"] for one in mine]))
            except (KeyError, TypeError, ValueError) as error:
                log.report(image_id, "unreadable_annotation", f"{annotations} lacks or garbles {error}")
                continue
            record = check.record(image_id, images / entry["file_name"], said)
            if record is not None:
                records.append(record)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{annotations} is no instances file of COCO: it lacks or garbles {error}"
        ) from error
    for number in objects:
        log.report(str(number), "missing_image", f"{annotations} has objects of a picture it does not list")
    return Dataset(records, list(classes.ids), log.problems)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def _id(entry: Mapping[str, Any]) -> int:
    return entry["id"]


def _by_picture(entries: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    objects = defaultdict(list)
    for entry in entries:
        if not entry.get("iscrowd", 0):
            objects[entry["image_id"]].append(entry)
    return dict(objects)


def _boxes(xywh: Sequence[Sequence[float]]) -> Boxes:
    array = np.array(xywh, np.float64)
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise ValueError("bbox, which must be four finite numbers")
    array[:, 2:] += array[:, :2]
    return array.astype(np.float32)
