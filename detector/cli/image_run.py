"""One run of a command over the pictures that a user names: finding, reading and reporting them.

One bad entry is told and passed over, and a run that is cut short keeps what it has found.
"""

import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from detector.cli.entry import reason
from detector.cli.standard_streams import output_is_lost
from detector.errors import DetectorError, ImageError, ParameterError, WriteError
from detector.io.atomic_write import check_writable, write_whole
from detector.io.decoding import Decoded, read_file
from detector.io.image_paths import images_below, unread_kinds
from detector.io.output_paths import ProtectedFiles, check_not_overwriting
from detector.io.terminal_text import one_line, printable, printable_path, valid_name
from detector.io.visualization import is_drawing, save

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STANDARD_OUTPUT = Path("-")
_MAX_STEM = 200  # bytes of a drawing's name; file systems take 255, with number and suffix


@dataclass(frozen=True)
class Entry:
    """A picture to be read: named by the user, or found in a folder."""

    path: Path
    named: bool


class Interrupted(KeyboardInterrupt):
    """The user, or the system, wants the run to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class ImageRun:
    """A run over pictures, as a context: at its end the results are written, however it ends.

    ``kind`` is the key of a picture's results (``detections``, ``classes``). Without ``json_file``, results
    are printed as they come. Leaving the context raises SystemExit with status 1 if anything went wrong, and
    with 128 and the signal's number after an interruption. A second signal ends the process at once.
    """

    def __init__(self, kind: str, json_file: Path | None, draw_folder: Path | None = None) -> None:
        """Check where the results go. Raises WriteError."""
        self._kind = kind
        self._json_file = json_file
        self._draw_folder = draw_folder
        self._results: list[dict[str, Any]] = []
        self._total = self._seen = self._failed = 0
        self._incomplete = False
        self._taken = ProtectedFiles([])
        self._passed_over = 0
        self._handlers: dict[int, Any] = {}
        if json_file is not None and json_file != _STANDARD_OUTPUT:
            check_writable(json_file)
        if draw_folder is not None:
            check_writable(draw_folder / "0001.png")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._results or error is None:  # nothing found by a run that failed replaces no older file
                self._write()
            if isinstance(error, Interrupted):
                kept = "" if self._results else "; nothing was found yet"
                _tell(f"interrupted after {self._seen} of {self._total} pictures{kept}")
                raise SystemExit(128 + error.number)
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        if error is not None:
            return
        if self._failed and self._total > 1:
            _tell(f"{self._failed} of {self._total} pictures failed")
        if self._failed or self._incomplete:
            raise SystemExit(1)

    def find(self, named: Sequence[Path], weights: Sequence[Path] = ()) -> list[Entry]:
        """Find the pictures: the files named, and those in the folders named.

        Drawings of other runs that lie in a folder are passed over, which is told, and so is a folder without
        pictures, and how many it has of kinds that are not read. Raises SystemExit, with status 1, if there
        is none at all, and ParameterError if the results would replace one of them, or the weights.
        """
        entries = [entry for path in named for entry in self._entries(path)]
        if self._passed_over:
            _note(
                f"{self._passed_over} drawings of other runs are passed over; one that is named by itself is "
                "looked at"
            )
        self._total = len(entries)
        paths = [entry.path for entry in entries]
        json_file = None if self._json_file == _STANDARD_OUTPUT else self._json_file
        self._taken = ProtectedFiles([*paths, *weights])
        self._taken.add(json_file)
        check_not_overwriting(json_file)
        if not entries:
            self._write()
            raise SystemExit(1)
        return entries

    def read(self, entries: Sequence[Entry]) -> Iterator[tuple[Path, Decoded]]:
        """Yield each picture that can be read; one that cannot is told and counted."""
        for entry in entries:
            try:
                if not entry.named and not stat.S_ISREG(entry.path.stat().st_mode):
                    raise OSError(EINVAL, "is no file")  # a pipe would wait for ever
                image = read_file(entry.path)
            except (ImageError, OSError) as error:
                self._fail(entry.path, error)
            else:
                yield entry.path, image
            self._seen += 1

    def add(self, path: Path, image: Decoded, found: list[dict[str, Any]]) -> None:
        """Keep what was found in a picture, and print it where no JSON is asked for."""
        height, width = image.pixels.shape[:2]
        about = {"image": valid_name(path), "width": width, "height": height, "frames": image.frames}
        self._results.append({**about, self._kind: found})
        if self._json_file is None:
            lines = [f"{printable_path(path)} ({width}x{height})"]
            for entry in found:
                label = printable(entry["label"])
                lines.append(f"  {entry['score']:6.1%}  {label:<24}{_corners(entry.get('box'))}")
            print("\n".join(lines), flush=True)
            if self._draw_folder is None and output_is_lost():
                raise SystemExit(1)  # nothing else is made of the pictures that are left

    def save_drawing(self, path: Path, drawn: NDArray[np.uint8]) -> None:
        """Save the drawing [H,W,3] of the picture added last; one that cannot be written is told."""
        assert self._draw_folder is not None
        stem = os.fsdecode(os.fsencode(path.stem)[:_MAX_STEM])
        place = self._draw_folder / f"{len(self._results):04d}-{stem}.png"
        try:
            self._taken.add(place)
            save(place, drawn)
        except (ParameterError, WriteError) as error:
            self._fail(path, error)

    def _entries(self, path: Path) -> Iterator[Entry]:
        try:
            is_folder = path.is_dir()
        except OSError:  # whoever reads it says what is wrong
            is_folder = False
        if not is_folder:
            yield Entry(path, named=True)
            return
        problems: list[OSError] = []
        unread: list[Path] = []
        found = False
        try:
            for image in images_below(path, problems.append, unread.append):
                if is_drawing(image):
                    self._passed_over += 1
                    continue
                found = True
                yield Entry(image, named=False)
        except OSError as error:  # the folder went away
            problems.append(error)
        for problem in problems:
            _tell(f"{printable_path(problem.filename or path)}: {reason(problem)}")
        if not found and not problems:
            _tell(f"no pictures in {printable_path(path)}")
        if unread:
            _tell(f"{printable_path(path)}: {unread_kinds(unread)}")
        self._incomplete |= bool(problems or unread) or not found

    def _fail(self, path: Path, error: DetectorError | OSError) -> None:
        self._failed += 1
        _tell(f"{printable_path(path)}: {reason(error).removeprefix(f'{path}: ')}")

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        for known in self._handlers:
            signal.signal(known, signal.SIG_DFL)
        raise Interrupted(number)

    def _write(self) -> None:
        if self._json_file is None:
            return
        text = json.dumps(self._results, indent=1)
        if self._json_file != _STANDARD_OUTPUT:
            try:
                write_whole(self._json_file, text.encode())
                return
            except WriteError as error:
                self._incomplete = True
                if _is_standard_output(self._json_file):
                    _tell(str(error))
                    return
                _tell(f"{error}; the results follow on standard output")
        print(text, flush=True)


def _is_standard_output(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def _tell(message: str) -> None:
    _note(f"error: {message}")


def _note(message: str) -> None:
    print(one_line(message, limit=2000), file=sys.stderr, flush=True)


def _corners(box: dict[str, float] | None) -> str:
    return "" if box is None else "  ".join(f"{value:7.1f}" for value in box.values())
