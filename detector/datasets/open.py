"""One door to a data set in any layout, which is found by looking, or named."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from detector.datasets.annotated_image import Dataset
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.folder_tree import FolderTree, unread_folders, unread_of
from detector.datasets.formats.agnostic import AgnosticFolder
from detector.datasets.formats.coco import CocoFolder
from detector.datasets.formats.ilsvrc import IlsvrcFolder
from detector.datasets.formats.ilsvrc_cls import LocFolder
from detector.datasets.formats.list_files import listed
from detector.datasets.formats.text_files import read_bytes, read_json
from detector.datasets.formats.voc import VocFolder
from detector.datasets.formats.yolo import YoloFolder
from detector.datasets.layout import Layout, read_entries
from detector.datasets.problems import OnProblem, Problem, ProblemLog
from detector.errors import DatasetError, ParameterError
from detector.io.image_paths import unread_kinds
from detector.io.readable_files import is_file
from detector.structures.classes import ClassList


class Format(StrEnum):
    """The layouts that can be read.

    The first four are found by looking. The others are further parts of an ILSVRC download, which are read
    where they are named: the boxes of CLS-LOC, and those of ``agnostic_boxes.json``.
    """

    ILSVRC = "ilsvrc"
    VOC = "voc"
    COCO = "coco"
    YOLO = "yolo"
    ILSVRC_LOC = "ilsvrc-loc"
    AGNOSTIC = "agnostic"

    @property
    def is_ilsvrc(self) -> bool:
        """Whether it is a part of an ILSVRC download, where a file name is one image in all parts."""
        return self in (Format.ILSVRC, Format.ILSVRC_LOC, Format.AGNOSTIC)


_OF_ILSVRC: dict[Format, Callable[[Path], Layout | None]] = {
    Format.ILSVRC: IlsvrcFolder.find,
    Format.ILSVRC_LOC: LocFolder.find,
    Format.AGNOSTIC: AgnosticFolder.find,
}

_OF_TREES: dict[Format, Callable[[FolderTree, bool], Layout | None]] = {
    Format.VOC: lambda tree, _: VocFolder.find(tree),
    Format.COCO: CocoFolder.find,
    Format.YOLO: lambda tree, _: YoloFolder.find(tree),
}

_SIGNS = {
    Format.ILSVRC: "ILSVRC/ImageSets/DET, ILSVRC/Data/DET and ILSVRC/Annotations/DET",
    Format.VOC: "JPEGImages/ and Annotations/, or XML files with <annotation> beside the pictures",
    Format.COCO: "JSON files with images, annotations and categories (annotations/instances_train.json)",
    Format.YOLO: "a data.yaml with names, or text files with 'class cx cy w h' and a classes.txt",
}


@dataclass(frozen=True)
class DataFolder:
    """A data set that was found in a folder: its layout, classes, and splits (none if it is of one piece).

    ``images_needed``: whether an image whose file is absent is a problem even where its annotation states its
    size. ``unread``: files below the folder that are images of kinds that are not read. ``problems``: folders
    that cannot be read, which are problems of every split.
    """

    root: Path
    format: Format
    layout: Layout = field(repr=False)
    images_needed: bool = True
    unread: Sequence[Path] = field(default=(), repr=False)
    problems: Sequence[Problem] = ()

    @property
    def classes(self) -> ClassList:
        """The classes, label by label."""
        return self.layout.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits: those for training first, then validation, test and others."""
        return self.layout.splits

    def read(
        self,
        split: str | Path | None = None,
        *,
        on_problem: OnProblem = OnProblem.REPORT,
        check_images: bool = True,
    ) -> Dataset:
        """Read a split, or the images that a list file names; by default every image, once.

        split:
            One of ``splits``, or the path of a list file, from the current folder or else from ``root``: an
            image a line, by its id, file name or path; further columns are ignored. Annotations that belong
            to no image of the data set are problems of every list file, since they may be what a listed
            image lacks.
        on_problem:
            ``REPORT`` leaves out what is broken and names it in ``Dataset.problems``; ``STOP`` raises at
            the first problem.
        check_images:
            Open the header of every image. Without it sizes are those that annotations state, and images
            are taken to be there (YOLO states no sizes: headers are read in any case).

        Raises DatasetError for a split that is neither, or at the first problem with ``OnProblem.STOP``.
        """
        checked: ImageCheck = "where present" if check_images and not self.images_needed else check_images
        log = ProblemLog(on_problem)
        own = str(split) if split in self.splits else None
        if split is None or own is not None:
            entries = self.layout.entries(own)
        else:
            entries = listed(self.layout.entries(None), self._list_file(split), log)
        records = read_entries(entries, log, checked)
        self.layout.unmatched_annotations(own, log)
        self._report_unread(log)
        for problem in self.problems:
            log.report(problem.image_id, problem.kind, problem.message)
        return Dataset(records, list(self.classes.ids), log.problems)

    def _list_file(self, split: str | Path) -> Path:
        """Return the list file that a path names, from the current folder or else from the data's."""
        for path in (Path(split), self.root / split):
            if is_file(path):
                return path
        splits = ", ".join(self.splits) if self.splits else "none: it is of one piece"
        raise DatasetError(
            f"{self.root} has no split {str(split)!r} (its splits are {splits}), and no list file is there "
            "or in the current folder: give one of the splits, or the path of a text file that names a "
            "picture a line"
        )

    def _report_unread(self, log: ProblemLog) -> None:
        """Report files of kinds that are not read, in one problem; annotated ones have their own."""
        named = {entry.image for entry in self.layout.entries(None)} if self.unread else set()
        unread = [path for path in self.unread if path not in named]
        if unread:
            log.report(str(self.root), "unread_kind", f"{self.root}: {unread_kinds(unread)}")


def open_dataset(root: Path, format: Format | str | None = None, *, images_needed: bool = True) -> DataFolder:
    """Find out what data set lies in a folder.

    ILSVRC's layout is recognised by its folders. Of VOC, COCO and YOLO each is looked for below the folder,
    and exactly one must be there, unless ``format`` names it. Without ``images_needed`` an image's file may
    be absent where its annotation states its size: enough to measure detections that were made elsewhere.

    Raises DatasetError, saying what was looked for, if there is no data set or more than one; ParameterError
    for a ``format`` that is none.
    """
    if format is not None:
        if format not in tuple(Format):
            raise ParameterError(f"format must be one of {', '.join(Format)}, got {format!r}")
        format = Format(format)
    if not os.path.isdir(root):  # noqa: PTH112 (Path.is_dir raises for a name that is too long)
        raise DatasetError(f"{root} is no folder: give the folder of a data set")
    of_ilsvrc = Format.ILSVRC if format is None else format
    if of_ilsvrc in _OF_ILSVRC:
        layout = _OF_ILSVRC[of_ilsvrc](root)
        if layout is not None:
            return DataFolder(root, of_ilsvrc, layout, images_needed)
    if format is not None and format.is_ilsvrc:
        raise _nothing_found(root, FolderTree.scan(root), [format])
    tree = FolderTree.scan(root)
    layouts: dict[Format, Layout] = {}
    for candidate in _OF_TREES if format is None else [format]:
        layout = _OF_TREES[candidate](tree, images_needed)
        if layout is not None:
            layouts[candidate] = layout
    problems = unread_folders(tree)
    if not layouts and problems:
        raise DatasetError(f"{root} holds no data set that can be read: {problems[0].message}")
    if not layouts:
        raise _nothing_found(root, tree, list(_SIGNS) if format is None else [format])
    if len(layouts) > 1:
        choice = " or ".join(f"--format {name}" for name in layouts)
        raise DatasetError(
            f"{root} holds annotations in more than one layout ({', '.join(layouts)}): "
            f"say which with {choice}"
        )
    ((name, layout),) = layouts.items()
    return DataFolder(root, name, layout, images_needed, unread_of(tree), problems)


def _nothing_found(root: Path, tree: FolderTree, wanted: Sequence[Format]) -> DatasetError:
    """Name a layout that is there and is not read, or what was looked for."""
    foreign = foreign_layout(tree)
    if foreign:
        return DatasetError(foreign)
    signs = "".join(f"\n  --format {name}: {_SIGNS[name]}" for name in wanted)
    return DatasetError(f"{root} holds no data set of a known layout. Looked for:{signs}")


_SAMPLE = 20  # files of a suffix that say what they are


def foreign_layout(tree: FolderTree) -> str:
    """Say which known layout that is not read lies below a folder, and what to do; "" if there is none."""
    for folder, names in islice(tree.with_suffix(".json", ".vott"), _SAMPLE):
        for path in (folder / name for name in names[:_SAMPLE]):
            try:
                name = _of_json(read_json(path))
            except DatasetError:
                continue
            if name:
                return f"{path} is {name}, which is not read: export it as COCO, YOLO or PASCAL VOC instead"
    for folder, names in tree.with_suffix(".csv", ".tfrecord", ".parquet"):
        path = folder / names[0]
        return f"{path} is a table, which is not read: export it as COCO, YOLO or PASCAL VOC instead"
    for folder, names in tree.with_suffix(".xml"):
        try:
            start = read_bytes(folder / names[0])[:2000].lower()
        except (OSError, DatasetError):
            continue
        if b"<annotations" in start:
            return f"{folder / names[0]} is CVAT's own XML, which is not read: export it as COCO 1.0 instead"
    return ""


def _of_json(content: Any) -> str:
    """Return the name of what a JSON file holds, "" if it is not known."""
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(content, list) and isinstance(first, Mapping):
        if {"image", "annotations"} <= first.keys():
            return "CreateML's JSON"
        if {"data", "annotations"} <= first.keys() or {"image", "label"} <= first.keys():
            return "Label Studio's JSON"
    if isinstance(content, Mapping):
        if {"shapes", "imagePath"} <= content.keys():
            return "the JSON of labelme and X-AnyLabeling"
        if "assets" in content or {"asset", "regions"} <= content.keys():
            return "VoTT's JSON"
        if "_via_img_metadata" in content or any(
            isinstance(value, Mapping) and "regions" in value for value in islice(content.values(), 3)
        ):
            return "the JSON of VGG's annotator (VIA)"
        if {"items", "categories"} <= content.keys():
            return "Datumaro's JSON"
    return ""
