"""The official layout of PASCAL VOC: ``JPEGImages``, ``Annotations`` and the lists of ``ImageSets/Main``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.list_file import PictureNames, plain, read_lines
from detector.datasets.formats.voc_images import Pair, PictureFinder
from detector.datasets.split_names import role_of
from detector.errors import DatasetError


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


def official_pairs(home: Path, finder: PictureFinder) -> list[Pair]:
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
    pictures = home / "JPEGImages"
    return [  # where a picture is absent, it is so from JPEGImages
        pair
        if pair.picture.parent != pair.annotation.parent
        or pair.picture.name in finder.tree.files[pair.picture.parent]
        else replace(pair, picture=pictures / f"{pair.image_id}.jpg")
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
    index = PictureNames((pair.image_id, pair.picture, pair) for pair in every)
    found: dict[str, Pair] = {}
    for path in lists:
        for line in read_lines(path):
            pair = index.find(line, path)
            if pair is None and line.startswith("#"):
                continue
            if pair is None:
                image_id = plain(line)
                picture = home / "JPEGImages" / f"{image_id}.jpg"
                pair = Pair(image_id, picture, home / f"Annotations/{image_id}.xml")
            found.setdefault(pair.image_id, pair)
    return list(found.values())


def list_path(home: Path, split: str) -> Path:
    """Where the list of a split lies."""
    return home / f"ImageSets/Main/{split}.txt"
