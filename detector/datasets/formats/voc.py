"""Reader of PASCAL VOC's layout, official or flat: XML files beside the images."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.list_files import ImageNames, class_list, plain
from detector.datasets.formats.text_files import read_lines
from detector.datasets.formats.voc_pairs import ImageFinder, Pair, Parse, official_pairs, voc_home, voc_homes
from detector.datasets.formats.voc_xml import VocReader, parse_voc_xml
from detector.datasets.layout import Entry, once, read_layout
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.split_names import in_order, role_of, split_of
from detector.errors import DatasetError
from detector.structures.classes import ClassList, voc


def read_voc(
    root: Path,
    split: str | Path | None = None,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: ImageCheck = True,
) -> Dataset:
    """Read the pictures and boxes of a folder in the layout of PASCAL VOC.

    root:
        The folder that holds ``JPEGImages`` and ``Annotations``, or one above it: that of ``VOC2007``, or
        of ``VOCdevkit``.
    split:
        A list of ``ImageSets/Main`` by its name (``trainval``), or a list file of your own by its path:
        one picture id a line, further columns are passed over. None reads every annotated picture, by name.
    classes:
        The classes to read; the 20 official ones by default. Objects of others are problems.
    on_problem, check_images:
        As for :func:`detector.datasets.formats.ilsvrc.read_ilsvrc_det`.

    Files count pixels from 1. Objects marked ``difficult`` are read like all others and carry their mark:
    they are objects, to be proposed and learnt; it is VOC's own average precision that leaves them aside.

    Raises DatasetError if the layout is another one, a list cannot be read, or at the first problem with
    ``OnProblem.STOP``.
    """
    classes = voc() if classes is None else classes
    home = voc_home(root)
    tree = FolderTree.scan(home)
    every = official_pairs(home, ImageFinder(tree, parse_voc_xml))
    if split is None:
        return read_layout(VocFolder.of({}, every, classes), None, on_problem, check_images)
    is_path = isinstance(split, Path) or split.endswith(".txt")
    path = Path(split) if is_path else home / f"ImageSets/Main/{split}.txt"
    folder = VocFolder.of({"": pairs_of_lists(home, [path], every)}, every, classes)
    return read_layout(folder, "", on_problem, check_images)


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
        """Return the data set below a folder, None if it holds no annotations of VOC.

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
        """Return a data set of these pictures and classes."""
        log = ProblemLog(OnProblem.REPORT)  # each entry is read with a log of its own
        return cls(pairs, every, VocReader(classes.index(), log, first_pixel=1, parse=parse), classes)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.pairs) if split)

    def entries(self, split: str | None) -> list[Entry]:
        pairs = self.every if split is None else self.pairs[split]
        return once(Entry(pair.image_id, pair.image, partial(self._read, pair)) for pair in pairs)

    def _read(self, pair: Pair, log: ProblemLog, check_images: ImageCheck) -> AnnotatedImage | None:
        if pair.report_problem(log):
            return None
        reader = replace(self.reader, log=log, check_images=check_images)
        return reader.read(pair.image_id, pair.image, pair.annotation)

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Report nothing: every annotation is an entry, with or without its picture."""


def official_lists(home: Path, tree: FolderTree, every: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Return the pairs of each list of ImageSets/Main that is a split.

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
        split: pairs_of_lists(home, [folder / name for name in file_names], every)
        for split, file_names in lists.items()
    }


def pairs_of_lists(home: Path, lists: Sequence[Path], every: Sequence[Pair]) -> list[Pair]:
    """Return the pairs that list files name, in their order; what they name and is not there is without
    annotation.

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


def _flat(tree: FolderTree, finder: ImageFinder) -> dict[str, list[Pair]]:
    """Return pairs by the folder named after a split that the annotation lies in."""
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
    """Return the classes that occur, by name; the official list where these are most of it and nothing
    else."""
    names: set[str] = set()
    for pair in pairs:
        with suppress(FileNotFoundError, DatasetError):  # reading its record names the problem
            names.update(parse(pair.annotation).names)
    official = voc()
    if names <= set(official.ids) and 2 * len(names) >= len(official):
        return official
    return class_list(root, sorted(names))
