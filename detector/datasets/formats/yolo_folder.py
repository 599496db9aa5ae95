"""Which label file belongs to a picture of a YOLO data set: found whatever the case of folders and suffix.

Folders in YOLO's layout: a data.yaml or a list of class names, pictures, and label files beside them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from detector.datasets.annotated_image import Problem, ProblemLog
from detector.datasets.entries import Entry, once
from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.files import read_bytes
from detector.datasets.formats.yolo import parse_yolo, yolo_entry
from detector.datasets.formats.yolo_description import CLASS_FILES, YoloDescription, named_in_file
from detector.datasets.presence import is_file
from detector.datasets.split_names import in_order, split_of
from detector.datasets.unread_images import unread_of
from detector.errors import DatasetError
from detector.io.image_paths import IMAGE_SUFFIXES, unread_kinds
from detector.structures.classes import ClassList


@dataclass(frozen=True)
class LabelFile:
    """The label file of a picture, which may be absent; ``problem`` says why it is not known which it is."""

    path: Path
    problem: str = ""


@dataclass(frozen=True)
class LabelFinder:
    """Finds label files: in ``labels`` where the picture's path says ``images``, or beside the picture; else
    in a ``labels`` in or beside the picture's folder, as X-AnyLabeling writes them."""

    tree: FolderTree
    _texts: dict[str, list[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder, names in self.tree.with_suffix(".txt"):
            for name in names:
                path = folder / name
                self._texts.setdefault(_folded(path.with_suffix("")), []).append(path)

    def find(self, image: Path) -> LabelFile:
        """The label file of a picture.

        Folders and suffixes are compared without case, names with it: what differs from a picture's name in
        case only is not taken for it, and is a problem where it belongs to no other picture.
        """
        places = list(self._places(image))
        found, twins = self._texts_of(image, places)
        if not found and not twins:
            near = (folder / "labels" for folder in (image.parent, image.parent.parent))
            inside = [folder for folder in near if folder.is_relative_to(self.tree.root)]
            found, twins = self._texts_of(image, inside)
        if len(found) > 1 and _differ(found):
            some = " and ".join(map(str, found[:2]))
            return LabelFile(found[0], f"{some} are both label files of {image}: leave one of them")
        if found:
            return LabelFile(found[0])
        for twin in twins:
            if not any(
                name.rpartition(".")[0] == twin.stem for name in self.tree.files.get(image.parent, ())
            ):
                message = f"{image} has no label file, but {twin} differs from its name in case only"
                return LabelFile(twin, f"{message}: rename one of them")
        expected = places[0] / f"{image.stem}.txt"
        above = (places[0], *places[0].parents) if self.tree.unread else ()
        lost = next((one for one in above if one in self.tree.unread), None)
        if lost is not None:
            why = self.tree.unread[lost]
            return LabelFile(
                expected, f"the label file of {image} would lie in {lost}, which cannot be read ({why})"
            )
        beside = image.with_name(expected.name)
        return LabelFile(expected if places[0] in self.tree.files else beside)

    def _texts_of(self, image: Path, places: Sequence[Path]) -> tuple[list[Path], list[Path]]:
        """The text files in some folders that are called like a picture, and those but for the case."""
        found: list[Path] = []
        twins: list[Path] = []
        for place in places:
            for stem in (image.stem, image.name):  # also a.jpg.txt
                outside = [] if place.is_relative_to(self.tree.root) else [place / f"{stem}.txt"]
                outside = [path for path in outside if is_file(path)]  # a data.yaml may lead elsewhere
                for path in [*self._texts.get(_folded(place / stem), []), *outside]:
                    (found if path.stem == stem else twins).append(path)
        return list(dict.fromkeys(found)), list(dict.fromkeys(twins))

    def every(self) -> list[Path]:
        """All text files of the tree, which may be label files."""
        return [path for paths in self._texts.values() for path in paths]

    def _places(self, image: Path) -> Iterator[Path]:
        """The folder of label files that mirrors that of a picture, and the picture's own."""
        parts = image.parent.parts
        for index in range(len(parts) - 1, -1, -1):
            if parts[index].lower() == "images":
                yield Path(*parts[:index], "labels", *parts[index + 1 :])
                break
        yield image.parent


def _folded(path: Path) -> str:
    return str(path).lower()


def _differ(paths: Sequence[Path]) -> bool:
    """Whether files do not all say the same; those that cannot be read may say anything."""
    try:
        return len({read_bytes(path) for path in paths}) > 1
    except (OSError, DatasetError):
        return True


_SAMPLE = 50  # text files that say whether they are label files
_NOT_LABELS = (
    *CLASS_FILES,
    "readme.txt",
    "train.txt",
    "val.txt",
    "valid.txt",
    "test.txt",
    "labelmap.txt",
    "requirements.txt",
)


Labelled = tuple[str, Path, LabelFile]  # image id, picture, label file


@dataclass(frozen=True)
class YoloFolder:
    """The pictures of each split and the label file that belongs to each; ``problems`` of its list files."""

    tree: FolderTree
    labels: LabelFinder
    images: Mapping[str, Sequence[Labelled]]
    classes: ClassList
    keypoints: bool = False
    problems: Mapping[str, Sequence[Problem]] = field(default_factory=dict)

    @classmethod
    def find(cls, tree: FolderTree) -> "YoloFolder | None":
        """The data set below a folder, None if it holds no label files of YOLO.

        Raises DatasetError if it does but the names of the classes, the pictures, or any label file of a
        picture are not found.
        """
        described = YoloDescription.find(tree)
        labels = LabelFinder(tree)
        if described is None:
            if not _has_labels(labels):
                return None
            images = _told_apart(_by_folder(tree, labels))
            return cls(tree, labels, _without_lost(images, tree, labels), named_in_file(tree))
        listed = described.images(tree)
        images = {
            split: [(tree.image_id(image), image, labels.find(image)) for image in mine]
            for split, mine in listed.images.items()
        } or _by_folder(tree, labels)
        mine = [label.path for pairs in images.values() for _, _, label in pairs]
        if mine and not any(is_file(path) for path in mine):
            first = next(iter(images.values()))[0][1]
            raise DatasetError(
                f"{described.path} describes a data set, but of its {len(mine)} pictures none has a label "
                f"file: that of {first} would be {mine[0]}. Lay the label files there"
            )
        images = _without_lost(_told_apart(images), tree, labels)
        return cls(tree, labels, images, described.classes(), described.keypoints, listed.problems)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.images) if split)

    def entries(self, split: str | None) -> list[Entry]:
        return once(
            yolo_entry(
                image_id,
                image,
                label.path,
                self.classes,
                keypoints=self.keypoints,
                problem=label.problem,
            )
            for name in self._chosen(split)
            for image_id, image, label in self.images[name]
        )

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Lines of lists that name nothing; label files without a picture, but those in the folders of other
        splits."""
        for name in self._chosen(split):
            for problem in self.problems.get(name, ()):
                log.report(problem.image_id, problem.kind, problem.message)
        mine = {label.path.parent for name in self._chosen(split) for _, _, label in self.images[name]}
        others = {label.path.parent for pairs in self.images.values() for _, _, label in pairs} - mine
        unread = {image.stem: f", but {unread_kinds([image])}" for image in unread_of(self.tree)}
        for path in _orphans(self.images, self.tree, self.labels):
            if path.parent not in others and _has_objects(path):
                message = f"label file {path} has no picture{unread.get(path.stem, '')}"
                log.report(path.stem, "missing_image", message)

    def _chosen(self, split: str | None) -> tuple[str, ...]:
        return tuple(in_order(self.images)) if split is None else (split,)


def _told_apart(images: Mapping[str, Sequence[Labelled]]) -> dict[str, list[Labelled]]:
    """The pictures; those that share a label file (a.jpg, a.png) have that as their problem."""
    owners: dict[Path, set[Path]] = {}
    for pairs in images.values():
        for _, image, label in pairs:
            owners.setdefault(label.path, set()).add(image)
    shared = {path for path, mine in owners.items() if len(mine) > 1 and is_file(path)}

    def told(image: Path, label: LabelFile) -> LabelFile:
        if label.problem or label.path not in shared:
            return label
        other = min(owners[label.path] - {image})
        return LabelFile(label.path, f"{label.path} may be of {image} or of {other}: leave one of them")

    return {
        split: [(image_id, image, told(image, label)) for image_id, image, label in pairs]
        for split, pairs in images.items()
    }


def _without_lost(
    images: Mapping[str, Sequence[Labelled]], tree: FolderTree, labels: LabelFinder
) -> dict[str, list[Labelled]]:
    """The pictures; those without a label file have as their problem one that is called like them, lies where
    none of theirs belongs and is no other picture's: without objects they would be learnt as background."""
    orphans: dict[str, list[Path]] = {}
    if not all(is_file(label.path) for pairs in images.values() for _, _, label in pairs):
        for path in _orphans(images, tree, labels):
            orphans.setdefault(path.stem, []).append(path)

    def told(image: Path, label: LabelFile) -> LabelFile:
        if label.problem or is_file(label.path):
            return label
        lost = next(filter(_has_objects, orphans.get(image.stem, ())), None)
        if lost is None:
            return label
        return LabelFile(
            lost, f"{image} has no label file, but {lost} is called like it: lay it at {label.path}"
        )

    return {
        split: [(image_id, image, told(image, label)) for image_id, image, label in pairs]
        for split, pairs in images.items()
    }


def _orphans(images: Mapping[str, Sequence[Labelled]], tree: FolderTree, labels: LabelFinder) -> list[Path]:
    """The text files that belong to no picture and are not known to be something else, sorted."""
    everything = (*images.values(), *_by_folder(tree, labels).values())
    owned = {label.path for pairs in everything for _, _, label in pairs}
    return sorted(
        path for path in labels.every() if path not in owned and path.name.lower() not in _NOT_LABELS
    )


def _has_labels(labels: LabelFinder) -> bool:
    """Whether some of the first text files are label files with objects."""
    found = (path for path in labels.every() if path.name.lower() not in _NOT_LABELS)
    return any(_has_objects(path) for path in islice(found, _SAMPLE))


def _has_objects(path: Path) -> bool:
    try:
        return bool(parse_yolo(path).numbers)
    except (OSError, DatasetError):
        return False


def _by_folder(tree: FolderTree, labels: LabelFinder) -> dict[str, list[Labelled]]:
    """All pictures below the root, by the folder named after a split that they lie in."""
    found: dict[str, list[Labelled]] = {}
    for folder, names in tree.with_suffix(*IMAGE_SUFFIXES):
        split = split_of(folder.relative_to(tree.root)) or ""
        for name in names:
            image = folder / name
            found.setdefault(split, []).append((tree.image_id(image), image, labels.find(image)))
    return found
