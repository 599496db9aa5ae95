"""The files below a folder, read once, for the readers that find a layout by looking."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from detector.datasets.problems import Problem
from detector.datasets.split_names import role_of
from detector.errors import DatasetError
from detector.io.image_paths import (
    DRAWING_SUFFIXES,
    IMAGE_SUFFIXES,
    has_image_suffix,
    has_unread_suffix,
    is_system_file,
    unread_kinds,
    without_suffix,
)

_DEPTH = 6  # folders below the root; data sets are shallow, and a home directory given by mistake is not


_FOLDERS = ("images", "labels", "annotations", "jpegimages")


@dataclass(frozen=True)
class FolderTree:
    """The names of the files in every folder below ``root``, sorted, without droppings.

    Links to folders are followed, each folder once. ``unread``: why a folder could not be read, by its path;
    a link called like a folder of a data set (``images``, ``val``) that leads nowhere is one of them.
    """

    root: Path
    files: Mapping[Path, tuple[str, ...]]
    unread: Mapping[Path, str] = field(default_factory=dict)

    @classmethod
    def scan(cls, root: Path, most: float = float("inf")) -> "FolderTree":
        """Read what lies below a folder.

        Raises DatasetError for the root of the file system and for Linux' own (``/proc``), which would take
        hours, and where there are more than ``most`` folders.
        """
        whole = Path(os.path.realpath(root))
        if whole == Path("/") or whole.parts[:2] in (("/", "proc"), ("/", "sys")):
            what = "the root of the file system" if whole == Path("/") else "a folder of the system itself"
            raise DatasetError(f"{root} is {what}: give the folder of the data itself")
        files: dict[Path, tuple[str, ...]] = {}
        unread: dict[Path, str] = {}
        seen = set()
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            place = os.path.realpath(folder)
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > most:
                raise DatasetError(f"{root} has over {most:,.0f} folders: give that of the pictures itself")
            try:
                below, names = _content(folder, unread)
            except OSError as error:
                unread[folder] = error.strerror or str(error)
                continue
            files[folder] = names
            if len(folder.relative_to(root).parts) < _DEPTH:
                waiting += [folder / name for name in reversed(below)]
        return cls(root, files, unread)

    def with_suffix(self, *suffixes: str) -> Iterator[tuple[Path, list[str]]]:
        """Yield each folder that has files of these suffixes (in lower case), and their names."""
        for folder, names in self.files.items():
            found = [name for name in names if name.lower().endswith(suffixes)]
            if found:
                yield folder, found

    def images(self, folder: Path) -> dict[str, str]:
        """Return the name of each picture in a folder, by its name without suffix; of two, the suffix that is
        tried first."""
        found: dict[str, str] = {}
        for suffix in reversed(IMAGE_SUFFIXES):
            for name in self.files.get(folder, ()):
                if name.lower().endswith(suffix):
                    found[name[: -len(suffix)]] = name
        return found

    def image_id(self, image: Path) -> str:
        """Return the path of a picture below the root, without suffix: unique, and short enough to read."""
        path = image.relative_to(self.root) if image.is_relative_to(self.root) else image
        return without_suffix(path).as_posix()


def _content(folder: Path, unread: dict[Path, str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of the folders and of the files in a folder, sorted; links to nowhere go to
    ``unread``."""
    below: list[str] = []
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system_file(entry.name):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself
                is_folder = False
            (below if is_folder else names).append(entry.name)
            if not is_folder and entry.is_symlink() and _is_of_data(entry.name):
                path = folder / entry.name
                if not os.path.exists(path):  # noqa: PTH110 (Path.exists raises where nobody may look)
                    unread[path] = f"it is a link to {os.readlink(path)}, where nothing is"  # noqa: PTH115
    return sorted(below), tuple(sorted(names))


def _is_of_data(name: str) -> bool:
    return name.lower() in _FOLDERS or role_of(name) is not None


def unread_folders(tree: FolderTree) -> list[Problem]:
    """Return a problem for each folder of a tree that could not be read."""
    return [
        Problem(
            str(path),
            "unreadable_annotation",
            f"folder {path} cannot be read ({why}): all that lies in it is left out",
        )
        for path, why in tree.unread.items()
    ]


def unread_of(tree: FolderTree) -> list[Path]:
    """Return the pictures of kinds that are not read below a folder; documents and marks only beside
    pictures."""
    return [
        folder / name
        for folder, names in tree.files.items()
        for name in names
        if has_unread_suffix(name)
        and (not name.lower().endswith(DRAWING_SUFFIXES) or any(map(has_image_suffix, names)))
    ]


def unread_beside(image: Path) -> str:
    """Say, behind the message of a missing picture, that it lies there in a kind that is not read; or ""."""
    try:
        changed = image.parent.stat().st_mtime_ns
        names = _unread_in(image.parent, changed).get(image.stem)
    except (OSError, ValueError):
        return ""
    return f", but {unread_kinds([image.with_name(names)])}" if names else ""


@lru_cache(maxsize=64)
def _unread_in(folder: Path, changed: int) -> dict[str, str]:
    """Return the names of the pictures in a folder that are not read, by their names without suffix.

    ``changed`` is the time of the folder's last change: another one is another answer.
    """
    return {Path(name).stem: name for name in sorted(os.listdir(folder)) if has_unread_suffix(name)}  # noqa: PTH208
