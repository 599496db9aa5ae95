"""What the user names, to the pictures that are looked at: files, folders, patterns, lists, videos."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from detector.datasets.formats.text_files import encoding_by_mark
from detector.errors import reason
from detector.io import plugins
from detector.io.image_paths import images_below, is_system_file, unread_kinds
from detector.io.terminal_text import one_line, printable_path
from detector.io.video import has_video_suffix
from detector.io.visualization import is_drawing

LIST_SUFFIXES = (".txt", ".lst", ".list")
"""Suffixes, in lower case, of files that are read as lists of pictures."""

STANDARD_INPUT = Path("-")


@dataclass(frozen=True)
class Entry:
    """A picture, or a video, to be read: named by the user, or found in a folder or by a pattern.

    ``below`` is its place below the folder that the user named, or its name: what files made of it are called
    by.
    """

    path: Path
    named: bool
    below: Path

    @property
    def is_video(self) -> bool:
        """Whether it is read as a video."""
        return has_video_suffix(self.path)


class Inputs:
    """Expands what the user names, in order; counts and tells what is wrong with it."""

    def __init__(self, tell: Callable[[str | OSError], None]) -> None:
        """``tell`` is called with each problem: a message, or the error of a file."""
        self._tell = tell
        self.incomplete = False
        """Whether something was named that could not be had, or is of a kind that is not read."""
        self.drawings = 0
        """How many drawings of other runs were passed over."""

    def expand(self, named: Sequence[Path]) -> list[Entry]:
        """Return the pictures and videos: of folders all pictures below them."""
        return list(self.each(named))

    def each(self, named: Sequence[Path]) -> Iterator[Entry]:
        """Yield the same, as they are found."""
        return (entry for path in named for entry in self._of_argument(path))

    def _of_argument(self, path: Path) -> Iterator[Entry]:
        if path == STANDARD_INPUT:
            yield from self._listed(sys.stdin.buffer.read(), Path(), "standard input")
        elif path.suffix.lower() in LIST_SUFFIXES and path.is_file():
            try:
                listed = path.read_bytes()
            except OSError as error:
                self._problem(error)
                return
            yield from self._listed(listed, path.parent, printable_path(path))
        else:
            yield from self._of_path(path)

    def _listed(self, data: bytes, folder: Path, source: str) -> Iterator[Entry]:
        """Yield what a list names, a path a line, or with zero bytes between (``find -print0``).

        Paths count from the current folder, or where nothing is there, from the list's own. With a byte order
        mark, as programs on Windows write it, the text is in the encoding that it tells.
        """
        if (encoding := encoding_by_mark(data)) is not None:
            errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
            data = data.decode(encoding, errors).encode("utf-8", "surrogateescape")
        lines = data.split(b"\0") if b"\0" in data else data.splitlines()
        paths = [Path(os.fsdecode(line)) for line in lines if line.strip()]
        if not paths:
            self._problem(f"{source} names no pictures")
        for path in paths:
            from_list = folder / path
            yield from self._of_path(from_list if not path.exists() and from_list.exists() else path)

    def _of_path(self, path: Path) -> Iterator[Entry]:
        try:
            is_folder = path.is_dir()
            is_pattern = has_magic(os.fspath(path)) and not os.path.lexists(path)
        except (OSError, ValueError):  # whoever reads it says what is wrong
            is_folder = is_pattern = False
        if is_folder:
            yield from self._below(path)
        elif is_pattern:
            yield from self._matching(path)
        else:
            yield Entry(path, named=True, below=Path(path.name))

    def _matching(self, pattern: Path) -> Iterator[Entry]:
        """Yield what a pattern matches that the shell left as it is: ``**`` goes through all sub-folders."""
        matches = [Path(name) for name in sorted(glob(os.fspath(pattern), recursive=True))]  # noqa: PTH207
        found = [path for path in matches if not is_system_file(path.name)]
        recursive = "**" in pattern.parts
        if not found:
            self._problem(f"nothing is there like {printable_path(pattern)}")
        for path in found:
            if path.is_dir():
                if not recursive:  # else what is below stands among the matches itself
                    yield from self._below(path)
            elif is_drawing(path):
                self.drawings += 1
            else:
                yield Entry(path, named=False, below=Path(path.name))

    def _below(self, folder: Path) -> Iterator[Entry]:
        problems: list[OSError] = []
        unread: list[Path] = []
        found = False
        try:
            for image in images_below(
                folder, problems.append, unread.append, further_suffixes=plugins.suffixes()
            ):
                if is_drawing(image):
                    self.drawings += 1
                    continue
                found = True
                yield Entry(image, named=False, below=image.relative_to(folder))
        except OSError as error:  # the folder went away
            problems.append(error)
        for problem in problems:
            if problem.filename is None:
                problem.filename = os.fspath(folder)
            self._problem(problem)
        if not found and not problems:
            self._problem(f"no pictures in {printable_path(folder)}")
        if unread:
            lacking = any(path.suffix.lower() in plugins.SUFFIXES[plugins.HEIC] for path in unread)
            advice = ", or pip install 'googlenet-detector[heic]'" if lacking else ""
            self._problem(f"{printable_path(folder)}: {unread_kinds(unread)}{advice}")

    def _problem(self, problem: str | OSError) -> None:
        self.incomplete = True
        self._tell(problem)


def tell(problem: str | OSError) -> None:
    """Print a problem on standard error, in one line."""
    if isinstance(problem, OSError):
        problem = f"{printable_path(problem.filename)}: {reason(problem)}"
    note(f"error: {problem}")


def note(message: str) -> None:
    """Print one line on standard error."""
    print(one_line(message, limit=2000), file=sys.stderr, flush=True)
