"""The official layout of PASCAL VOC: ``JPEGImages``, ``Annotations`` and the lists of ``ImageSets/Main``.

Folders in PASCAL VOC's layout, official or flat: XML files beside the pictures.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from detector.datasets.annotated_image import AnnotatedImage, OnProblem, ProblemLog
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.entries import Entry, once
from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.files import ImageNames, class_list, plain, read_lines
from detector.datasets.formats.voc_images import ImageFinder, Pair, Parse
from detector.datasets.formats.voc_xml import VocReader, parse_voc_xml
from detector.datasets.split_names import in_order, role_of, split_of
from detector.errors import DatasetError
from detector.structures.classes import ClassList, voc


def is_voc(root: Path) -> bool:
    """Whether ``root`` or a folder that it holds is in the official layout."""
    return bool(voc_homes(root))


def voc_home(root: Path) -> Path:
    """The one folder with ``JPEGImages`` and ``Annotations``; DatasetError if there is none or several."""
    homes = voc_homes(root)
    if not homes:
        raise DatasetError(
            f"{root} holds no JPEGImages/ and Annotations/: give the folder that does, as PASCAL VOC lays it "
            "out (VOCdevkit/VOC2007)"
        )
    if len(homes) > 1:
        raise DatasetError(f"{root} holds {len(homes)} data sets: give one of {', '.join(map(str, homes))}")
    return homes[0]


def voc_homes(root: Path) -> list[Path]:
    """The folders with ``Annotations`` beside ``JPEGImages`` or, where the pictures are elsewhere, beside
    ``ImageSets``: ``root`` itself, or those of one level below."""
    candidates = [root], sorted(root.glob("VOC*")), sorted(root.glob("VOCdevkit/VOC*"))
    for level in candidates:
        homes = [
            path
            for path in level
            if (path / "Annotations").is_dir()
            and any((path / part).is_dir() for part in ("JPEGImages", "ImageSets"))
        ]
        if homes:
            return homes
    return []


def official_pairs(home: Path, finder: ImageFinder) -> list[Pair]:
    """Every annotation and its picture, by the annotation's path below ``Annotations``."""
    below = home / "Annotations"
    paths = [
        folder / name
        for folder, names in finder.tree.with_suffix(".xml")
        if folder == below or folder.is_relative_to(below)
        for name in names
    ]
    pairs = [
        replace(pair, image_id=pair.annotation.relative_to(below).with_suffix("").as_posix())
        for pair in finder.pairs(paths)
    ]
    images = home / "JPEGImages"
    return [  # where a picture is absent, it is so from JPEGImages
        pair
        if pair.image.parent != pair.annotation.parent
        or pair.image.name in finder.tree.files[pair.image.parent]
        else replace(pair, image=images / f"{pair.image_id}.jpg")
        for pair in pairs
    ]


def official_lists(home: Path, tree: FolderTree, every: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The pairs of each list of ImageSets/Main that is a split.

    Where there are only lists by class (``cat_train.txt``, as VoTT writes them), what those of one split name
    together is the split. Raises DatasetError if a list cannot be read or names a picture ambiguously.
    """
    folder = home / "ImageSets/Main" if (home / "ImageSets/Main").is_dir() else home / "ImageSets"
    names = [name for name in tree.files.get(folder, ()) if name.lower().endswith(".txt")]
    lists = {Path(name).stem: [name] for name in names if role_of(Path(name).stem) is not None}
    if not lists:
        for name in names:
            split = Path(name).stem.rpartition("_")[2]
            if role_of(split) is not None:
                lists.setdefault(split, []).append(name)
    return {
        split: pairs_of_lists(home, [folder / name for name in mine], every) for split, mine in lists.items()
    }


def pairs_of_lists(home: Path, lists: Sequence[Path], every: Sequence[Pair]) -> list[Pair]:
    """The pairs that list files name, in their order; what they name and is not there is without annotation.

    Raises DatasetError if a list cannot be read or names a picture ambiguously.
    """
    index = ImageNames((pair.image_id, pair.image, pair) for pair in every)
    found: dict[str, Pair] = {}
    for path in lists:
        for line in read_lines(path):
            pair = index.find(line, path)
            if pair is None and line.startswith("#"):
                continue
            if pair is None:
                image_id = plain(line)
                image = home / "JPEGImages" / f"{image_id}.jpg"
                pair = Pair(image_id, image, home / f"Annotations/{image_id}.xml")
            found.setdefault(pair.image_id, pair)
    return list(found.values())


def list_path(home: Path, split: str) -> Path:
    """Where the list of a split lies."""
    return home / f"ImageSets/Main/{split}.txt"


_SAMPLE = 20  # XML files, from all of the set, that say whether they are annotations


@dataclass(frozen=True)
class VocFolder:
    """Pictures with their annotations by split; those of no split under the empty name."""

    pairs: Mapping[str, Sequence[Pair]]
    every: Sequence[Pair]
    reader: VocReader
    classes: ClassList

    @classmethod
    def find(cls, tree: FolderTree) -> "VocFolder | None":
        """The data set below a folder, None if it holds no annotations of VOC.

        Every annotation is read, once, for the classes and the names of pictures. Raises DatasetError if
        several official folders lie below the root.
        """
        parse = cache(parse_voc_xml)
        finder = ImageFinder(tree, parse)
        if voc_homes(tree.root):
            home = voc_home(tree.root)
            every = official_pairs(home, finder)
            pairs = official_lists(home, tree, every)
        else:
            pairs = _flat(tree, finder)
            every = [pair for split in in_order(pairs) for pair in pairs[split]]
        if not every:
            return None
        return cls.of(pairs, every, _classes(tree.root, every, parse), parse)

    @classmethod
    def of(
        cls,
        pairs: Mapping[str, Sequence[Pair]],
        every: Sequence[Pair],
        classes: ClassList,
        parse: Parse = parse_voc_xml,
    ) -> "VocFolder":
        """A data set of these pictures and classes."""
        log = ProblemLog(OnProblem.REPORT)  # each entry is read with a log of its own
        return cls(pairs, every, VocReader(classes.index(), log, first_pixel=1, parse=parse), classes)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.pairs) if split)

    def entries(self, split: str | None) -> list[Entry]:
        pairs = self.every if split is None else self.pairs[split]
        return once(Entry(pair.image_id, pair.image, partial(self._read, pair)) for pair in pairs)

    def _read(self, pair: Pair, log: ProblemLog, check_images: ImageCheck) -> AnnotatedImage | None:
        if pair.is_told(log):
            return None
        reader = replace(self.reader, log=log, check_images=check_images)
        return reader.read(pair.image_id, pair.image, pair.annotation)

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Nothing: every annotation is an entry, with or without its picture."""


def _flat(tree: FolderTree, finder: ImageFinder) -> dict[str, list[Pair]]:
    """Pairs by the folder named after a split that the annotation lies in."""
    paths = [folder / name for folder, names in tree.with_suffix(".xml") for name in names]
    if not any(_is_annotation(path) for path in paths[:: 1 + len(paths) // _SAMPLE]):
        return {}
    found: dict[str, list[Pair]] = {}
    for pair in finder.pairs(paths):
        split = split_of(pair.annotation.parent.relative_to(tree.root)) or ""
        found.setdefault(split, []).append(pair)
    return found


def _is_annotation(path: Path) -> bool:
    try:
        parse_voc_xml(path)
    except (OSError, DatasetError):
        return False
    return True


def _classes(root: Path, pairs: Iterable[Pair], parse: Parse) -> ClassList:
    """The classes that occur, by name; the official list where these are most of it and nothing else."""
    names: set[str] = set()
    for pair in pairs:
        with suppress(FileNotFoundError, DatasetError):  # reading its record names the problem
            names.update(parse(pair.annotation).names)
    official = voc()
    if names <= set(official.ids) and 2 * len(names) >= len(official):
        return official
    return class_list(root, sorted(names))
