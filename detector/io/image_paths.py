"""Which files are images, by their names, and which are images of kinds that are not read."""

import os
from collections.abc import Callable, Iterator, Sequence
from errno import EISDIR
from pathlib import Path

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff",
    ".jpe", ".jfif", ".pjpeg", ".pjp", ".apng", ".dib",
)  # fmt: skip
"""Suffixes, in lower case, of what :mod:`detector.io.decoding` decodes; the first is tried first."""

DRAWING_SUFFIXES = (".pdf", ".svg", ".svgz", ".eps", ".ico", ".cur", ".icns", ".wmf", ".emf", ".xbm", ".xpm")
"""Of documents and marks, which lie about in folders that hold no pictures."""

UNREAD_SUFFIXES = (
    # of telephones and of the web
    ".heic", ".heif", ".heics", ".heifs", ".hif", ".avif", ".avifs", ".jxl", ".jxr", ".wdp", ".hdp", ".bpg",
    ".flif", ".qoi", ".mpo", ".jps",
    # JPEG 2000
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpm",
    # of cameras
    ".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".srw", ".orf", ".rw2",
    ".rwl", ".raf", ".pef", ".x3f", ".3fr", ".fff", ".iiq", ".kdc", ".dcr", ".mrw", ".erf", ".mef",
    # of science and of programs
    ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".tga", ".exr", ".hdr", ".pcx", ".dds", ".sgi", ".ras",
    ".dpx", ".fits", ".dcm", ".psd", ".psb", ".xcf", ".kra",
    *DRAWING_SUFFIXES,
)  # fmt: skip
"""Suffixes, in lower case, of pictures that are not read: who has some is told."""

_NAMED = 3  # of files that are not read, so many are named

_DROPPINGS = frozenset(
    {
        # macOS (the hidden ones, .DS_Store and ._NAME among them, are told by their dot)
        "__macosx", "network trash folder", "temporary items",
        # Windows
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler",
        "system volume information", "found.000",
        # Synology and QNAP: thumbnails, bins, snapshots
        "@eadir", "@tmp", "@recycle", "@recycly", "@recently-snapshot", "@__thumb", "#recycle", "#snapshot",
        # Linux, Python
        "lost+found", "__pycache__",
    }
)  # fmt: skip


def has_image_suffix(path: str | Path) -> bool:
    """Tell whether a file's name ends like a picture's, in upper or lower case."""
    return os.fspath(path).lower().endswith(IMAGE_SUFFIXES)


def has_unread_suffix(path: str | Path) -> bool:
    """Tell whether a file's name ends like that of a picture of a kind that is not read."""
    return os.fspath(path).lower().endswith(UNREAD_SUFFIXES)


def unread_kinds(paths: Sequence[Path]) -> str:
    """Say of pictures that they are of kinds that are not read, and what to do."""
    kinds = ", ".join(sorted({path.suffix.lower() for path in paths}))
    names = ", ".join(path.name for path in paths[:_NAMED])
    if len(paths) == 1:
        return f"{names} is of a kind that is not read ({kinds}): convert it to JPEG or PNG"
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    which = f"{len(paths)} files are of kinds that are not read ({kinds}: {names}{more})"
    return f"{which}: convert them to JPEG or PNG"


def without_suffix(path: Path) -> Path:
    """A path without its suffix; one that is all suffix or dots (``.jpg``, ``..jpg``, ``/``) as it is."""
    return Path(os.path.splitext(path)[0])  # noqa: PTH122 (Path.with_suffix raises for these)


def is_system_file(name: str) -> bool:
    """Tell whether ``name``, of one file or folder, is what a system or tool left there.

    These are hidden names (``._a.jpg``, ``.DS_Store``, ``.ipynb_checkpoints``, ``.Trash-1000``) and those of
    known folders and files (``__MACOSX``, ``@eaDir``, ``Thumbs.db``, ``$RECYCLE.BIN``). Whoever walks through
    a folder passes them over, with all below; a path that the user names is always taken.
    """
    return name.startswith(".") or name.lower() in _DROPPINGS


def images_below(
    folder: Path,
    on_error: Callable[[OSError], None] | None = None,
    on_unread: Callable[[Path], None] | None = None,
) -> Iterator[Path]:
    """Find the files called like pictures in a folder and its sub-folders, sorted, its own first.

    Files that systems leave behind are passed over (:func:`is_system_file`). Links to folders are followed,
    each folder once. A file called like a picture that is none, or a link to nowhere, comes too: who opens it
    says what is wrong. ``on_error`` is told of each folder that cannot be read (without it, the OSError is
    raised), and of each that is called like a picture and has nothing in it;
    ``on_unread`` of each picture whose kind is not read.
    """
    seen = set()
    for where, below, names in os.walk(folder, onerror=on_error or _raise, followlinks=True):
        path = Path(where)
        place = path.stat()
        if (place.st_dev, place.st_ino) in seen:
            below.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        if on_error is not None and not below and not names and has_image_suffix(where):
            on_error(IsADirectoryError(EISDIR, "is a folder, not a picture", where))
        below[:] = sorted(name for name in below if not is_system_file(name))
        for name in sorted(name for name in names if not is_system_file(name)):
            if has_image_suffix(name):
                yield path / name
            elif on_unread is not None and has_unread_suffix(name):
                on_unread(path / name)


def _raise(error: OSError) -> None:
    raise error
