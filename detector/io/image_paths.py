"""Image files by their names: which are decoded, and which are of formats that are not."""

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
"""Suffixes of documents and icons, which are also found in folders without photographs."""

UNREAD_SUFFIXES = (
    # phones and the web
    ".heic", ".heif", ".heics", ".heifs", ".hif", ".avif", ".avifs", ".jxl", ".jxr", ".wdp", ".hdp", ".bpg",
    ".flif", ".qoi", ".mpo", ".jps",
    # JPEG 2000
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpm",
    # cameras
    ".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".srw", ".orf", ".rw2",
    ".rwl", ".raf", ".pef", ".x3f", ".3fr", ".fff", ".iiq", ".kdc", ".dcr", ".mrw", ".erf", ".mef",
    # science and image programs
    ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".tga", ".exr", ".hdr", ".pcx", ".dds", ".sgi", ".ras",
    ".dpx", ".fits", ".dcm", ".psd", ".psb", ".xcf", ".kra",
    *DRAWING_SUFFIXES,
)  # fmt: skip
"""Suffixes, in lower case, of image formats that are not decoded: the user is told of such files."""

_NAMED = 3  # how many files of undecoded formats a message names

_DROPPINGS = frozenset(
    {
        # macOS (hidden ones such as .DS_Store and ._NAME are recognised by their dot)
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
    """Return whether a file's name has the suffix of a format that is decoded, in upper or lower case."""
    return os.fspath(path).lower().endswith(IMAGE_SUFFIXES)


def has_unread_suffix(path: str | Path) -> bool:
    """Return whether a file's name has the suffix of an image format that is not decoded."""
    return os.fspath(path).lower().endswith(UNREAD_SUFFIXES)


def unread_kinds(paths: Sequence[Path]) -> str:
    """Return a message that these images are of formats that are not decoded, and what to do."""
    kinds = ", ".join(sorted({path.suffix.lower() for path in paths}))
    names = ", ".join(path.name for path in paths[:_NAMED])
    if len(paths) == 1:
        return f"{names} is of a kind that is not read ({kinds}): convert it to JPEG or PNG"
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    summary = f"{len(paths)} files are of kinds that are not read ({kinds}: {names}{more})"
    return f"{summary}: convert them to JPEG or PNG"


def without_suffix(path: Path) -> Path:
    """Return a path without its suffix; one of suffix or dots only (``.jpg``, ``..jpg``, ``/``) as it is."""
    return Path(os.path.splitext(path)[0])  # noqa: PTH122 (Path.with_suffix raises for these)


def is_system_file(name: str) -> bool:
    """Return whether ``name``, of one file or folder, is one that a system or a tool leaves behind.

    These are hidden names (``._a.jpg``, ``.DS_Store``, ``.ipynb_checkpoints``, ``.Trash-1000``) and those of
    known folders and files (``__MACOSX``, ``@eaDir``, ``Thumbs.db``, ``$RECYCLE.BIN``). A walk through a
    folder skips them and all below them; a path that the user names is always taken.
    """
    return name.startswith(".") or name.lower() in _DROPPINGS


def images_below(
    folder: Path,
    on_error: Callable[[OSError], None] | None = None,
    on_unread: Callable[[Path], None] | None = None,
    further_suffixes: tuple[str, ...] = (),
) -> Iterator[Path]:
    """Yield the paths with an image suffix in a folder and its sub-folders, sorted, the folder's own first.

    System files are skipped (:func:`is_system_file`). Links to folders are followed, each folder once. Files
    are not opened: a path may be no image or a broken link.

    ``on_error`` is called for each folder that cannot be read (without it, the OSError is raised), and for
    each empty folder with an image suffix. ``on_unread`` is called for each image whose format is not
    decoded. ``further_suffixes``, in lower case, are those of formats that are decoded besides.
    """
    seen_folders = set()
    for folder_name, subfolders, names in os.walk(folder, onerror=on_error or _raise, followlinks=True):
        path = Path(folder_name)
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen_folders:
            subfolders.clear()
            continue
        seen_folders.add((status.st_dev, status.st_ino))
        if on_error is not None and not subfolders and not names and has_image_suffix(folder_name):
            on_error(IsADirectoryError(EISDIR, "is a folder, not a picture", folder_name))
        subfolders[:] = sorted(name for name in subfolders if not is_system_file(name))
        for name in sorted(name for name in names if not is_system_file(name)):
            if has_image_suffix(name) or name.lower().endswith(further_suffixes or "/"):
                yield path / name
            elif on_unread is not None and has_unread_suffix(name):
                on_unread(path / name)


def _raise(error: OSError) -> None:
    raise error
