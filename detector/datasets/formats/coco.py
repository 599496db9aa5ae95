"""Reader of COCO's layout: instances files, and the images wherever they lie beside them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.datasets.annotated_image import Dataset
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.folder_tree import FolderTree, unread_of
from detector.datasets.formats.coco_file import KEYS, CocoFile
from detector.datasets.formats.list_files import class_list, relative
from detector.datasets.formats.text_files import read_json, read_text
from detector.datasets.formats.values import normalise_keys
from detector.datasets.layout import Entry, once, read_entries
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.split_names import in_order, role_of, split_of
from detector.errors import DatasetError
from detector.io.image_paths import unread_kinds
from detector.structures.classes import ClassList


def read_coco(
    annotations: Path,
    images: Path,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: ImageCheck = True,
) -> Dataset:
    """Read one instances file (``instances_val2017.json``) and the folder of its pictures.

    Records come in the file's order; an ``image_id`` is COCO's number as text. A file's box is x, y, width
    and height, continuous as ours are; where it is absent, it is that around the outline. Annotations with
    ``iscrowd`` are no objects but a record's ``crowds``: each is a box around many, which none of them fills.
    A picture with ``"partial": true`` (a mark of this project, which COCO's own files lack) is ``partial``.

    classes:
        The classes to read, by COCO's names; by default all categories of the file in the order of their
        ids. Objects of others are problems.
    on_problem, check_images:
        As for :func:`detector.datasets.formats.ilsvrc.read_ilsvrc_det`.

    Raises DatasetError if the file is no instances file, or at the first problem with ``OnProblem.STOP``.
    """
    file = CocoFile.load(annotations)
    classes = file.class_list() if classes is None else classes
    log = ProblemLog(on_problem)
    records = read_entries(file.entries(images, classes), log, check_images)
    file.unlisted(log)
    return Dataset(records, list(classes.ids), log.problems)


# COCO's other tasks on the same pictures.
_OTHERS = re.compile(r"^(captions|person_keypoints|stuff|panoptic|image_info|unlabeled|densepose|results)")


_SAMPLE = 50  # pictures whose names say in which folder they all are; annotations that tell what they are


@dataclass(frozen=True)
class Place:
    """The folder that a file's pictures are in, below which the first ``dropped`` folders of a ``file_name``
    are passed over: tools write the path on their own disk."""

    folder: Path
    dropped: int = 0


@dataclass(frozen=True)
class CocoFolder:
    """Instances files by split, and where the pictures of each lie."""

    files: Mapping[str, CocoFile]
    images: Mapping[str, Place]
    classes: ClassList

    @classmethod
    def find(cls, tree: FolderTree, images_needed: bool = True) -> "CocoFolder | None":
        """Return the data set below a folder, None if it holds no instances file.

        Raises DatasetError if a file that is meant to be one cannot be read, if two files are of one split,
        or if none of the pictures of a file is found and they are needed.
        """
        files: dict[str, CocoFile] = {}
        unlike: DatasetError | None = None
        for path in _candidates(tree):
            try:
                file = CocoFile.load(path)
            except DatasetError as error:
                likeness = _likeness(path)
                if likeness == len(KEYS) or (likeness and _is_named(path)):
                    raise
                if likeness == len(KEYS) - 1:
                    unlike = unlike or error
                continue  # JSON of another kind
            split = _split(path, tree.root)
            if split in files:
                raise DatasetError(
                    f"{files[split].path} and {path} are both the split {split or 'without name'!r}: "
                    "leave one of them, or give the folder that holds only one"
                )
            files[split] = file
        if not files and unlike is not None:
            raise unlike
        if not files:
            return None
        files = {split: files[split] for split in in_order(files)}
        images = {split: _place(tree, split, file, images_needed) for split, file in files.items()}
        return cls(files, images, _classes(list(files.values())))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in self.files if split)

    def entries(self, split: str | None) -> list[Entry]:
        chosen = self.files if split is None else [split]
        return once(
            entry
            for name in chosen
            for entry in self.files[name].entries(
                self.images[name].folder, self.classes, self.images[name].dropped
            )
        )

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Report objects of pictures that their file does not list, and entries that cannot be read."""
        for name in self.files if split is None else [split]:
            self.files[name].unlisted(log)


def _candidates(tree: FolderTree) -> list[Path]:
    """Return the JSON files that may be instances files; those whose names say so, if any do."""
    found = [
        folder / name
        for folder, names in tree.with_suffix(".json")
        for name in names
        if not _OTHERS.match(name)
    ]
    named = [path for path in found if _is_named(path)]
    return named or found


def _is_named(path: Path) -> bool:
    return re.search("instances|annotations", path.stem.lower()) is not None


def _likeness(path: Path) -> int:
    """Return how many of COCO's three lists a file holds that is no instances file; as good as all where it
    begins like one and is cut off, is named like one and cannot be read, or has two of them and a box."""
    try:
        text = read_text(path)
    except (OSError, DatasetError):
        text = ""
    try:
        found = read_json(path)
    except DatasetError:
        begins = sum(f'"{name}"' in text for name in KEYS) >= 2
        return len(KEYS) if begins or _is_named(path) else 0
    fields = normalise_keys(found, KEYS)
    number = sum(name in fields for name in KEYS)
    objects = fields.get("annotations")
    has_box = isinstance(objects, list) and any(
        "bbox" in normalise_keys(entry, ["bbox"]) for entry in objects[:_SAMPLE]
    )
    return len(KEYS) if has_box and number > 1 else number


def _split(path: Path, root: Path) -> str:
    """Return ``val2017`` of ``instances_val2017.json``, ``train`` of ``train/_annotations.coco.json``."""
    words = [word for word in re.split(r"[._\- ]+", path.stem) if role_of(word) is not None]
    return words[-1] if words else split_of(path.relative_to(root).parent) or ""


def _place(tree: FolderTree, split: str, file: CocoFile, images_needed: bool) -> Place:
    """Return where a file's pictures are: the folder that holds most of the first ones.

    Of folders with the same number, that of the split's name, then that of the file. Only where no folder
    holds any, folders of the ``file_name`` are passed over, as few as will do.
    """
    names = [relative(image.name) for image in file.images[:_SAMPLE]]
    if not names:
        return Place(file.path.parent)
    sets = {folder: frozenset(files) for folder, files in tree.files.items()}
    nowhere: frozenset[str] = frozenset()

    def found(folder: Path, dropped: int) -> int:
        of_folder = (relative(str(name), dropped) for name in names if len(name.parts) > dropped)
        return sum(name.name in sets.get(folder / name.parent, nowhere) for name in of_folder)

    def merit(folder: Path, dropped: int) -> tuple[int, bool, bool, int]:
        own = split != "" and split in folder.relative_to(tree.root).parts
        return found(folder, dropped), own, folder == file.path.parent, -len(folder.parts)

    for dropped in range(max(len(name.parts) for name in names)):
        best = max(sets, key=lambda folder: merit(folder, dropped))
        if found(best, dropped):
            return Place(best, dropped)
    best = max(sets, key=lambda folder: merit(folder, 0))
    if images_needed and not tree.images(best):
        raise DatasetError(
            f"none of the first {len(names)} pictures that {file.path} lists lies in a folder below "
            f"{tree.root}: put them in {tree.root / (split or 'images')}; the first is {names[0]}"
            + (f"; {unread_kinds(unread)}" if (unread := unread_of(tree)) else "")
        )
    return Place(best)  # with none of the pictures, it is the folder of that name: each is then a problem


def _classes(files: Sequence[CocoFile]) -> ClassList:
    """Return the categories of all files in the order of the first.

    Exports of Roboflow have one more category, the name of the project, that only stands above the others:
    it has no objects and is no class.
    """
    above = {parent for file in files for name, parent in file.supercategories.items() if parent != name}
    used = {
        file.categories.get(str(annotation.category))
        for file in files
        for annotations in file.objects.values()
        for annotation in annotations
    }
    names = [name for file in files for name in file.class_list().ids if name not in above or name in used]
    return class_list(files[0].path, dict.fromkeys(names))
