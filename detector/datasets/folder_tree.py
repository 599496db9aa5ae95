"""What lies below a folder, read once, for the readers that find their way by looking."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from detector.picture_paths import PICTURE_SUFFIXES, is_dropping

_DEPTH = 6  # folders below the root; data sets are shallow, and a home directory given by mistake is not


@dataclass(frozen=True)
class FolderTree:
    """The names of the files in every folder below ``root``, sorted, without droppings.

    Links to folders are followed, each folder once.
    """

    root: Path
    files: Mapping[Path, tuple[str, ...]]

    @classmethod
    def scan(cls, root: Path) -> "FolderTree":
        files = {}
        seen = set()
        for folder, below, names in os.walk(root, followlinks=True):
            path = Path(folder)
            place = os.path.realpath(folder)
            if place in seen:
                below.clear()
                continue
            seen.add(place)
            deep = len(path.relative_to(root).parts) >= _DEPTH
            below[:] = [] if deep else sorted(name for name in below if not is_dropping(name))
            files[path] = tuple(sorted(name for name in names if not is_dropping(name)))
        return cls(root, files)

    def with_suffix(self, *suffixes: str) -> Iterator[tuple[Path, list[str]]]:
        """Each folder that has files of these suffixes (in lower case), and their names."""
        for folder, names in self.files.items():
            found = [name for name in names if name.lower().endswith(suffixes)]
            if found:
                yield folder, found

    def pictures(self, folder: Path) -> dict[str, str]:
        """The name of each picture in a folder, by its name without suffix; of two, the suffix that
        is tried first."""
        found: dict[str, str] = {}
        for suffix in reversed(PICTURE_SUFFIXES):
            for name in self.files.get(folder, ()):
                if name.lower().endswith(suffix):
                    found[name[: -len(suffix)]] = name
        return found

    def image_id(self, picture: Path) -> str:
        """The path of a picture below the root, without suffix: unique, and short enough to read."""
        path = picture.with_suffix("")
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()
