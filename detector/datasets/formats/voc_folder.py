"""Folders in PASCAL VOC's layout, official or flat: XML files beside the pictures."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from detector.datasets.entries import Entry, once
from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.class_names import class_list
from detector.datasets.formats.voc_images import Pair, Parse, PictureFinder
from detector.datasets.formats.voc_official import official_lists, official_pairs, voc_home, voc_homes
from detector.datasets.formats.voc_record import VocRecordReader
from detector.datasets.formats.voc_xml import parse_voc_xml
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.record import Record
from detector.datasets.record_check import PictureCheck
from detector.datasets.split_names import in_order, split_of
from detector.errors import DatasetError
from detector.structures.classes import ClassList, voc

_SAMPLE = 20  # XML files, from all of the set, that say whether they are annotations


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

        Every annotation is read, once, for the classes and the names of pictures. Raises DatasetError if
        several official folders lie below the root.
        """
        parse = cache(parse_voc_xml)
        finder = PictureFinder(tree, parse)
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
        return cls(pairs, every, VocRecordReader(classes.index(), log, first_pixel=1, parse=parse), classes)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.pairs) if split)

    def entries(self, split: str | None) -> list[Entry]:
        pairs = self.every if split is None else self.pairs[split]
        return once(Entry(pair.image_id, pair.picture, partial(self._read, pair)) for pair in pairs)

    def _read(self, pair: Pair, log: ProblemLog, check_pictures: PictureCheck) -> Record | None:
        if pair.is_told(log):
            return None
        reader = replace(self.reader, log=log, check_pictures=check_pictures)
        return reader.read(pair.image_id, pair.picture, pair.annotation)

    def strays(self, split: str | None, log: ProblemLog) -> None:
        """Nothing: every annotation is an entry, with or without its picture."""


def _flat(tree: FolderTree, finder: PictureFinder) -> dict[str, list[Pair]]:
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
