"""Files of pixels that a run leaves: drawn pictures, drawn videos, objects cut out, explanations."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.cli.inputs import Entry
from detector.io.atomic_write import check_writable
from detector.io.terminal_text import printable
from detector.io.video import VideoWriter
from detector.io.visualization import save

_MAX_STEM = 200  # bytes of a drawing's name; file systems take 255, with number and suffix


class Drawings:
    """Writes drawings, what was cut out, and drawn explanations into folders, numbered as pictures come.

    Methods raise WriteError for what cannot be written, and what ``take`` raises.
    """

    def __init__(
        self,
        draw_folder: Path | None,
        crops_folder: Path | None,
        explain_folder: Path | None,
        take: Callable[[Path], object],
    ) -> None:
        """``take`` is told of each file before it is written, and raises where it must not be.

        Raises WriteError for folders that cannot be written to.
        """
        self._draw_folder, self._crops_folder = draw_folder, crops_folder
        self._explain_folder = explain_folder
        self._take = take
        self._video: tuple[Entry, VideoWriter, ExitStack] | None = None
        folders = [folder for folder in (draw_folder, crops_folder, explain_folder) if folder is not None]
        self.wanted = bool(folders)
        """Whether there is anything to write."""
        for folder in folders:
            check_writable(folder / "0001.png")

    def save_picture(self, number: int, entry: Entry, drawn: NDArray[np.uint8]) -> None:
        """Save the drawing [H,W,3] of a picture."""
        assert self._draw_folder is not None
        place = self._draw_folder / f"{_name(number, entry)}.png"
        self._take(place)
        save(place, drawn)

    def save_frame(self, number: int, entry: Entry, rate: float, drawn: NDArray[np.uint8]) -> None:
        """Add the drawing [H,W,3] of a frame to the video made of its own, ``rate`` frames a second."""
        assert self._draw_folder is not None
        if self._video is None or self._video[0] is not entry:
            self.close(None)
            place = self._draw_folder / f"{_name(number, entry)}.mp4"
            self._take(place)
            stack = ExitStack()
            self._video = entry, stack.enter_context(VideoWriter(place, rate)), stack
        self._video[1].add(drawn)

    def save_crops(self, number: int, entry: Entry, crops: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
        """Save what was cut out of a picture in a folder for each class; ``crops`` are names of classes and
        pixels [H,W,3]."""
        assert self._crops_folder is not None
        for part, (name, pixels) in enumerate(crops, start=1):
            folder = self._crops_folder / (printable(name).replace("/", "_").strip(". ") or "_")
            place = folder / f"{_name(number, entry)}-{part}.jpg"
            self._take(place)
            save(place, pixels)

    def save_explanations(self, number: int, entry: Entry, drawn: Iterable[NDArray[np.uint8]]) -> None:
        """Save drawn explanations [H,W,3] of a picture's objects, best first; each is drawn when its turn
        comes."""
        assert self._explain_folder is not None
        for part, pixels in enumerate(drawn, start=1):
            place = self._explain_folder / f"{_name(number, entry)}-{part}.png"
            self._take(place)
            save(place, pixels)

    def close(self, error: BaseException | None) -> None:
        """Finish the video that was begun last; after an error there is none."""
        if self._video is not None:
            _, _, stack = self._video
            self._video = None
            stack.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _name(number: int, entry: Entry) -> str:
    return f"{number:04d}-{os.fsdecode(os.fsencode(entry.path.stem)[:_MAX_STEM])}"
