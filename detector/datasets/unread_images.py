"""Pictures of kinds that are not read, in data sets: what is told of them where they are needed."""

import os
from functools import lru_cache
from pathlib import Path

from detector.datasets.folder_tree import FolderTree
from detector.io.image_paths import (
    DRAWING_SUFFIXES,
    has_image_suffix,
    has_unread_suffix,
    unread_kinds,
)


def unread_of(tree: FolderTree) -> list[Path]:
    """The pictures of kinds that are not read below a folder; documents and marks only beside pictures."""
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
    """The names of the pictures in a folder that are not read, by their names without suffix.

    ``changed`` is the time of the folder's last change: another one is another answer.
    """
    return {Path(name).stem: name for name in sorted(os.listdir(folder)) if has_unread_suffix(name)}  # noqa: PTH208
