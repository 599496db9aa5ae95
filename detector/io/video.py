"""Frames of video files, and videos made of drawn ones, by OpenCV's FFmpeg."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.errors import ImageError, WriteError
from detector.io.decoding import RGB
from detector.io.terminal_text import printable_path

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv",
    ".3gp", ".ogv",
)  # fmt: skip
"""Suffixes, in lower case, of files that are read as videos."""

_CUT_OFF = 0.9  # of the frames that are stated; for some kinds of files that number is an estimate
_USUAL_RATE = 25.0  # frames a second of a file that does not state it


def has_video_suffix(path: str | Path) -> bool:
    """Return whether a file's name has the suffix of a video, in upper or lower case."""
    return os.fspath(path).lower().endswith(VIDEO_SUFFIXES)


@dataclass(frozen=True)
class Frame:
    """A frame: its ``number`` in the video from 0 on, its time in ``seconds``, its pixels [H,W,3] RGB."""

    number: int
    seconds: float
    pixels: RGB


class Video:
    """A video file, read from its beginning to its end; a context.

    ``rate`` is frames a second, ``frames`` how many there are as the file states it: 0 where it does not;
    ``read`` how many have been passed so far.
    """

    def __init__(self, path: Path) -> None:
        """Open it. Raises ImageError (``unreadable``) for what is no video, OSError for what cannot be
        opened."""
        with path.open("rb"):  # OpenCV does not say why it cannot
            pass
        self._path = path
        self._capture = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise self._error("it is no video that can be read")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if 0 < rate <= 1000 else _USUAL_RATE
        self.frames = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()

    def every(self, step: int) -> Iterator[Frame]:
        """Yield every ``step``-th frame, the first one first; those between are not decoded.

        Raises ImageError (``unreadable``) where not a single frame can be read.
        """
        while self._capture.grab():
            number = self.read
            if number % step == 0:
                read, pixels = self._capture.retrieve()
                if not read:
                    break
                rgb = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
                yield Frame(number, number / self.rate, rgb)
            self.read += 1
        if not self.read:
            raise self._error("it holds no frame that can be read")

    @property
    def seems_cut_off(self) -> bool:
        """Whether it ended, once all frames were read, clearly before as many as it states."""
        return self.read < _CUT_OFF * self.frames

    def _error(self, problem: str) -> ImageError:
        return ImageError("unreadable", f"{self._path}: {problem}")


class VideoWriter:
    """Writes frames as a video (MP4, MPEG-4 part 2); a context. The file appears under its name when all are
    written, and not at all after an error: leaving the context raises WriteError where some were not."""

    def __init__(self, path: Path, rate: float) -> None:
        """``rate`` is frames a second. The size is that of the first frame; others are scaled to it."""
        self._path, self._rate = path, rate
        self._temporary = path.with_name(f".{uuid4().hex}.partial.mp4")  # the suffix decides on the container
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0
        self._size = (0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        whole = error is None and _frames_in(self._temporary) == self._frames
        if whole:
            self._temporary.replace(self._path)
            return
        with suppress(OSError):
            self._temporary.unlink()
        if error is None:
            raise WriteError(f"cannot write {printable_path(self._path)}: make room on its disk")

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Add a frame [H,W,3] RGB. Raises WriteError where no video can be written."""
        if self._writer is None:
            height, width = pixels.shape[:2]
            self._size = (max(2, width - width % 2), max(2, height - height % 2))  # the codec's are even
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = cv2.VideoWriter(
                os.fspath(self._temporary),
                cv2.CAP_FFMPEG,
                cv2.VideoWriter.fourcc(*"mp4v"),
                self._rate,
                self._size,
            )
            if not self._writer.isOpened():
                raise WriteError(
                    f"cannot write {printable_path(self._path)}: name a folder that you may write to, or "
                    "install an OpenCV with FFmpeg"
                )
        frame = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size)
        self._writer.write(frame)  # says nothing of a full disk
        self._frames += 1


def _frames_in(path: Path) -> int:
    """Return how many frames a video states that was written here: 0 for one that is not whole."""
    capture = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()
