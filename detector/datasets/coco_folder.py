"""Folders in COCO's layout: instances files, and the pictures wherever they lie beside them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.classes import ClassList
from detector.datasets.coco import CocoFile
from detector.datasets.entries import Entry, once
from detector.datasets.folder_tree import FolderTree
from detector.datasets.split_names import in_order, role_of, split_of
from detector.errors import DatasetError

# COCO's other tasks on the same pictures.
_OTHERS = re.compile(r"^(captions|person_keypoints|stuff|panoptic|image_info|unlabeled|densepose|results)")
_SAMPLE = 50  # pictures whose names say in which folder they all are


@dataclass(frozen=True)
class CocoFolder:
    """Instances files by split, and the folder that holds the pictures of each."""

    files: dict[str, CocoFile]
    images: dict[str, Path]
    classes: ClassList

    @classmethod
    def find(cls, tree: FolderTree) -> "CocoFolder | None":
        """The data set below a folder, None if it holds no instances file.

        Raises DatasetError if two files are of one split, or the pictures of a file are not found.
        """
        files: dict[str, CocoFile] = {}
        for path in _candidates(tree):
            try:
                file = CocoFile.load(path)
            except DatasetError:
                continue  # JSON of another kind
            split = _split(path, tree.root)
            if split in files:
                raise DatasetError(
                    f"{files[split].path} and {path} are both the split {split or 'without name'!r}: "
                    "leave one of them, or give the folder that holds only one"
                )
            files[split] = file
        if not files:
            return None
        files = {split: files[split] for split in in_order(files)}
        images = {split: _pictures(tree, split, file) for split, file in files.items()}
        return cls(files, images, _classes(list(files.values())))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in self.files if split)

    def entries(self, split: str | None) -> list[Entry]:
        chosen = self.files if split is None else [split]
        return once(
            entry for name in chosen for entry in self.files[name].entries(self.images[name], self.classes)
        )


def _candidates(tree: FolderTree) -> list[Path]:
    """JSON files that may be instances files; those whose names say so, if any do."""
    found = [
        folder / name
        for folder, names in tree.with_suffix(".json")
        for name in names
        if not _OTHERS.match(name)
    ]
    named = [path for path in found if re.search("instances|annotations", path.stem)]
    return named or found


def _split(path: Path, root: Path) -> str:
    """``val2017`` of ``instances_val2017.json``, ``train`` of ``train/_annotations.coco.json``."""
    words = [word for word in re.split(r"[._\- ]+", path.stem) if role_of(word) is not None]
    return words[-1] if words else split_of(path.relative_to(root).parent) or ""


def _pictures(tree: FolderTree, split: str, file: CocoFile) -> Path:
    """The folder that a file's pictures are in: that where most of the first ones are.

    Of folders with the same number, that of the split's name, then that of the file.
    """
    names = [Path(image["file_name"]) for image in file.images[:_SAMPLE]]
    if not names:
        return file.path.parent
    sets = {folder: frozenset(files) for folder, files in tree.files.items()}
    nowhere: frozenset[str] = frozenset()

    def merit(folder: Path) -> tuple[int, bool, bool, int]:
        found = sum(name.name in sets.get(folder / name.parent, nowhere) for name in names)
        own = split != "" and split in folder.relative_to(tree.root).parts
        return found, own, folder == file.path.parent, -len(folder.parts)

    best = max(sets, key=merit)
    if merit(best)[0] == 0 and not tree.pictures(best):
        raise DatasetError(
            f"none of the first {len(names)} pictures that {file.path} lists lies in a folder below "
            f"{tree.root}: put them in {tree.root / (split or 'images')}; the first is {names[0]}"
        )
    return best  # with none of the pictures, it is the folder of that name: each is then a problem


def _classes(files: Sequence[CocoFile]) -> ClassList:
    """The categories of all files in the order of the first.

    Exports of Roboflow have one more category, the name of the project, that only stands above the others:
    it has no objects and is no class.
    """
    above = {parent for file in files for name, parent in file.supercategories.items() if parent != name}
    used = {
        file.categories.get(number) for file in files for mine in file.objects.values() for number, _ in mine
    }
    names = [name for file in files for name in file.class_list().ids if name not in above or name in used]
    return ClassList.of(dict.fromkeys(names))
