"""Reader of pictures whose every object has a box but no class: for MultiBox and the recall of proposals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.annotation_check import Annotation, AnnotationCheck, ImageCheck
from detector.datasets.formats.ilsvrc import IlsvrcLayout, Task, image_rows
from detector.datasets.formats.text_files import read_json
from detector.datasets.formats.values import normalise_keys, number, shown, side
from detector.datasets.layout import Entry, read_layout
from detector.datasets.problems import OnProblem, ProblemLog
from detector.errors import DatasetError
from detector.structures.boxes import from_corners
from detector.structures.classes import ClassList

_OBJECT = ClassList.of(["object"])

FILE_NAME = "agnostic_boxes.json"

# Where a picture may lie, the likeliest first: task, split, and the list that names it.
_LISTS: tuple[tuple[Task, str, str], ...] = (
    ("DET", "val", "val"),
    ("CLS-LOC", "val", "val"),
    ("DET", "train", "train"),
    ("CLS-LOC", "train", "train_cls"),
)


def agnostic_file(root: Path) -> Path:
    """Return where the file lies, for the folder that holds ``ILSVRC`` or for that folder itself."""
    return (root.parent if root.name == "ILSVRC" else root) / FILE_NAME


def read_agnostic(
    root: Path, *, on_problem: OnProblem = OnProblem.REPORT, check_images: bool = True
) -> Dataset:
    """Read ``agnostic_boxes.json`` beside ``ILSVRC``: all boxes of its pictures, of the one class "object".

    The file maps a picture's name, without its folder, to ``width``, ``height`` and ``boxes``: corners
    ``x1, y1, x2, y2`` whose last pixel is part of the object, as in ILSVRC's own files. A size that is absent
    or odd is that of the picture; a box that is no four numbers is left out, and its picture ``partial``.
    Pictures are looked for in all lists of both tasks; where several of one task have the name, it is a
    problem. Arguments are those of :func:`detector.datasets.formats.ilsvrc.read_ilsvrc_det`.

    Raises DatasetError if the file cannot be read or neither task is laid out beside it, or at the first
    problem with ``OnProblem.STOP``.
    """
    return read_layout(AgnosticFolder.find(root), None, on_problem, check_images)


@dataclass(frozen=True)
class AgnosticFolder:
    """The images of ``agnostic_boxes.json``: its entries by name, and the files that may be of each name."""

    path: Path
    annotations: Mapping[str, Any]
    images: Mapping[str, Sequence[Path]]
    splits: tuple[str, ...] = ()
    classes: ClassList = _OBJECT

    @classmethod
    def find(cls, root: Path) -> "AgnosticFolder":
        """Read the file. Raises DatasetError if it cannot be read or neither task is laid out beside it."""
        path = agnostic_file(root)
        images = _images(root)
        annotations = read_json(path)
        if not isinstance(annotations, dict):
            raise DatasetError(f"{path} must map the name of a picture to its size and boxes")
        return cls(path, annotations, images)

    def entries(self, split: str | None) -> list[Entry]:
        """List the images in the order of the file."""
        del split  # there are none
        return [
            Entry(name, self._place(name), partial(self._read, name, annotation))
            for name, annotation in self.annotations.items()
        ]

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Report nothing: every annotation is an entry, with or without its image."""

    def _place(self, name: str) -> Path:
        """Return the image of a name, or where it would lie beside the file if no list names it."""
        return next(iter(self.images.get(name, ())), self.path.with_name(f"{Path(name).name}.JPEG"))

    def _read(
        self, image_id: str, entry: object, log: ProblemLog, check_images: ImageCheck
    ) -> AnnotatedImage | None:
        paths = self.images.get(image_id, ())
        if len(paths) > 1:
            some = ", ".join(map(str, paths[:3]))
            message = f"{self.path} gives boxes by the name alone, which several pictures have: {some}"
            log.report(image_id, "duplicate_id", message)
            return None
        if not paths:
            log.report(image_id, "missing_image", "no list of DET or CLS-LOC names this picture")
            return None
        annotation = _annotation(self.path, entry)
        if annotation is None:
            wanted = "an object with width, height and a list of boxes belongs, and no other entry inside"
            message = f"its entry in {self.path} is {shown(entry)}, where {wanted}"
            log.report(image_id, "unreadable_annotation", message)
            return None
        check = AnnotationCheck(self.classes.index(), log, check_images, empty_side=1)
        return check.record(image_id, paths[0], annotation)


def _annotation(path: Path, entry: object) -> Annotation | None:
    """Return what an entry says, None if it has no list of boxes, or holds the entry of another picture."""
    fields = normalise_keys(entry, ("width", "height", "boxes"))
    listed = fields.get("boxes")
    inside = (value for value in fields.values() if isinstance(value, Mapping))
    if not isinstance(listed, list) or any("boxes" in normalise_keys(value, ["boxes"]) for value in inside):
        return None
    (width, wide), (height, high) = side(fields.get("width")), side(fields.get("height"))
    stated = f"{shown(fields.get('width'))} x {shown(fields.get('height'))}"
    odd = [] if wide and high else [f"{path} states the size {stated}: that of the picture is taken"]
    sound, unreadable = [], []
    for position, box in enumerate(listed, start=1):
        corners = [number(value) for value in box] if isinstance(box, list) else []
        whole = [value for value in corners if value is not None]
        if len(corners) == len(whole) == 4:
            sound.append(whole)
        else:
            wanted = "four finite numbers belong: x1, y1, x2, y2"
            unreadable.append(f"its entry in {path}: box {position} is {shown(box)}, where {wanted}")
    boxes = from_corners(np.array(sound, np.float64).reshape(-1, 4))
    return Annotation(width, height, ["object"] * len(boxes), boxes, unreadable=unreadable, odd=odd)


def _images(root: Path) -> Mapping[str, Sequence[Path]]:
    """Return the file of each picture that a list names, by the last part of its name.

    One name in both tasks is one picture. Within a task it may be that of several: then all of them come.
    """
    found: dict[str, list[Path]] = {}
    tasks: dict[str, Task] = {}
    missing: list[DatasetError] = []
    for task, split, list_name in _LISTS:
        try:
            layout = IlsvrcLayout.find(root, task)
        except DatasetError as error:
            missing.append(error)
            continue
        if layout.list_file(list_name).exists():
            for image_id, *_ in image_rows(layout.list_file(list_name)):
                name, path = Path(image_id).name, layout.image(split, image_id)
                known = found.setdefault(name, [])
                if not known or (tasks[name] == task and path not in known):
                    tasks[name] = task
                    known.append(path)
    if len(missing) == len(_LISTS):
        raise missing[0]
    return found
