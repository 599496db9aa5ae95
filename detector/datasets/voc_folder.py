"""Folders in PASCAL VOC's layout, official or flat: XML files beside the pictures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path

from detector.classes import ClassList, voc
from detector.datasets.entries import Entry, once
from detector.datasets.folder_tree import FolderTree
from detector.datasets.ilsvrc import read_list
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.record import Record
from detector.datasets.split_names import in_order, role_of, split_of
from detector.datasets.voc import voc_home, voc_homes
from detector.datasets.voc_record import VocRecordReader
from detector.datasets.voc_xml import VocAnnotation, parse_voc_xml
from detector.errors import DatasetError

_SAMPLE = 20  # XML files that say whether they are annotations
_ANNOTATIONS = ("Annotations", "annotations", "annots", "xmls", "xml", "labels")
_PICTURES = ("JPEGImages", "images", "Images", "imgs", "img", "pictures")

Pair = tuple[str, Path, Path]  # image id, picture, annotation


@dataclass(frozen=True)
class VocFolder:
    """Pictures with their annotations by split; those of no split under the empty name."""

    pairs: Mapping[str, Sequence[Pair]]
    every: Sequence[Pair]
    reader: VocRecordReader
    classes: ClassList

    @classmethod
    def find(cls, tree: FolderTree) -> "VocFolder | None":
        """The data set below a folder, None if it holds no annotations of VOC.

        Every annotation is read, once, for the classes. Raises DatasetError if several official
        folders lie below the root.
        """
        if voc_homes(tree.root):
            pairs, every = _official(voc_home(tree.root), tree)
        else:
            pairs = _flat(tree)
            every = [pair for split in in_order(pairs) for pair in pairs[split]]
        if not every:
            return None
        parse = cache(parse_voc_xml)
        classes = _classes(every, parse)
        log = ProblemLog(OnProblem.REPORT)  # each entry is read with a log of its own
        reader = VocRecordReader(classes.index(), log, first_pixel=1, parse=parse)
        return cls(pairs, every, reader, classes)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.pairs) if split)

    def entries(self, split: str | None) -> list[Entry]:
        pairs = self.every if split is None else self.pairs[split]
        return once(
            Entry(image_id, picture, partial(self._read, image_id, picture, annotation))
            for image_id, picture, annotation in pairs
        )

    def _read(
        self, image_id: str, picture: Path, annotation: Path, log: ProblemLog, check_pictures: bool
    ) -> Record | None:
        reader = replace(self.reader, log=log, check_pictures=check_pictures)
        return reader.read(image_id, picture, annotation)


def _official(home: Path, tree: FolderTree) -> tuple[dict[str, list[Pair]], list[Pair]]:
    """Pairs by list of ImageSets/Main, and all that are annotated."""
    pictures = tree.pictures(home / "JPEGImages")

    def pair(image_id: str) -> Pair:
        name = pictures.get(image_id, f"{image_id}.jpg")
        return image_id, home / "JPEGImages" / name, home / f"Annotations/{image_id}.xml"

    lists = home / "ImageSets/Main" if (home / "ImageSets/Main").is_dir() else home / "ImageSets"
    names = [Path(name).stem for name in tree.files.get(lists, ()) if name.endswith(".txt")]
    splits = [name for name in names if role_of(name) is not None]  # not aeroplane_train
    every = [Path(name).stem for name in tree.files.get(home / "Annotations", ()) if name.endswith(".xml")]
    pairs = {split: [pair(columns[0]) for columns in read_list(lists / f"{split}.txt")] for split in splits}
    return pairs, [pair(image_id) for image_id in every]


def _flat(tree: FolderTree) -> dict[str, list[Pair]]:
    """Pairs by the folder named after a split that the annotation lies in."""
    found: dict[str, list[Pair]] = {}
    annotations = list(tree.with_suffix(".xml"))
    first = (folder / name for folder, names in annotations for name in names)
    if not any(_is_annotation(path) for path in islice(first, _SAMPLE)):
        return {}
    for folder, names in annotations:
        split = split_of(folder.relative_to(tree.root)) or ""
        places = [(place, tree.pictures(place)) for place in _places(folder, tree)]
        for name in names:
            stem = name[: -len(".xml")]
            holder = next(((place, own) for place, own in places if stem in own), None)
            picture = holder[0] / holder[1][stem] if holder else folder / f"{stem}.jpg"
            found.setdefault(split, []).append((tree.image_id(picture), picture, folder / name))
    return found


def _places(folder: Path, tree: FolderTree) -> list[Path]:
    """Where the pictures of a folder of annotations may lie: in it, or where ``images`` is for a part of its
    path that says ``annotations``."""
    places = [folder]
    relative = folder.relative_to(tree.root)
    for index, part in enumerate(relative.parts):
        if part in _ANNOTATIONS:
            rest = relative.parts[index + 1 :]
            places += [tree.root.joinpath(*relative.parts[:index], name, *rest) for name in _PICTURES]
    if not relative.parts or relative.parts[-1] in _ANNOTATIONS:
        places.append(folder.parent if relative.parts else folder)
    return [place for place in dict.fromkeys(places) if place in tree.files]


def _is_annotation(path: Path) -> bool:
    try:
        parse_voc_xml(path)
    except (OSError, DatasetError):
        return False
    return True


def _classes(pairs: Iterable[Pair], parse: Callable[[Path], VocAnnotation]) -> ClassList:
    """The classes that occur, by name; the official list where these are most of it and nothing else."""
    names: set[str] = set()
    for _, _, annotation in pairs:
        with suppress(FileNotFoundError, DatasetError):  # reading its record names the problem
            names.update(parse(annotation).names)
    official = voc()
    if names <= set(official.ids) and 2 * len(names) >= len(official):
        return official
    return ClassList.of(sorted(names))
