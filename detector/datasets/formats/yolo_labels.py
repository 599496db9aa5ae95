"""Which label file belongs to a picture of a YOLO data set: found whatever the case of folders and suffix."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.text_file import read_bytes
from detector.datasets.presence import is_file
from detector.errors import DatasetError


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

    def find(self, picture: Path) -> LabelFile:
        """The label file of a picture.

        Folders and suffixes are compared without case, names with it: what differs from a picture's name in
        case only is not taken for it, and is a problem where it belongs to no other picture.
        """
        places = list(self._places(picture))
        found, twins = self._texts_of(picture, places)
        if not found and not twins:
            near = (folder / "labels" for folder in (picture.parent, picture.parent.parent))
            inside = [folder for folder in near if folder.is_relative_to(self.tree.root)]
            found, twins = self._texts_of(picture, inside)
        if len(found) > 1 and _differ(found):
            some = " and ".join(map(str, found[:2]))
            return LabelFile(found[0], f"{some} are both label files of {picture}: leave one of them")
        if found:
            return LabelFile(found[0])
        for twin in twins:
            if not any(
                name.rpartition(".")[0] == twin.stem for name in self.tree.files.get(picture.parent, ())
            ):
                message = f"{picture} has no label file, but {twin} differs from its name in case only"
                return LabelFile(twin, f"{message}: rename one of them")
        expected = places[0] / f"{picture.stem}.txt"
        above = (places[0], *places[0].parents) if self.tree.unread else ()
        lost = next((one for one in above if one in self.tree.unread), None)
        if lost is not None:
            why = self.tree.unread[lost]
            return LabelFile(
                expected, f"the label file of {picture} would lie in {lost}, which cannot be read ({why})"
            )
        beside = picture.with_name(expected.name)
        return LabelFile(expected if places[0] in self.tree.files else beside)

    def _texts_of(self, picture: Path, places: Sequence[Path]) -> tuple[list[Path], list[Path]]:
        """The text files in some folders that are called like a picture, and those but for the case."""
        found: list[Path] = []
        twins: list[Path] = []
        for place in places:
            for stem in (picture.stem, picture.name):  # also a.jpg.txt
                outside = [] if place.is_relative_to(self.tree.root) else [place / f"{stem}.txt"]
                outside = [path for path in outside if is_file(path)]  # a data.yaml may lead elsewhere
                for path in [*self._texts.get(_folded(place / stem), []), *outside]:
                    (found if path.stem == stem else twins).append(path)
        return list(dict.fromkeys(found)), list(dict.fromkeys(twins))

    def every(self) -> list[Path]:
        """All text files of the tree, which may be label files."""
        return [path for paths in self._texts.values() for path in paths]

    def _places(self, picture: Path) -> Iterator[Path]:
        """The folder of label files that mirrors that of a picture, and the picture's own."""
        parts = picture.parent.parts
        for index in range(len(parts) - 1, -1, -1):
            if parts[index].lower() == "images":
                yield Path(*parts[:index], "labels", *parts[index + 1 :])
                break
        yield picture.parent


def _folded(path: Path) -> str:
    return str(path).lower()


def _differ(paths: Sequence[Path]) -> bool:
    """Whether files do not all say the same; those that cannot be read may say anything."""
    try:
        return len({read_bytes(path) for path in paths}) > 1
    except (OSError, DatasetError):
        return True
