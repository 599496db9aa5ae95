"""One run of a command over the pictures that a user names: reading, looking at and reporting them.

One bad entry is told and passed over, and a run that is cut short keeps what it has found.
"""

import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from detector.cli.drawings import Drawings
from detector.cli.inputs import Entry, Inputs, note, tell
from detector.cli.interruption import Interrupted, interruptible
from detector.cli.progress import Progress
from detector.cli.standard_streams import output_is_lost
from detector.errors import DetectorError, ImageError, ParameterError, WriteError, reason
from detector.inference.executor import Executor
from detector.inference.quarantine import Quarantine
from detector.inference.streaming import stream
from detector.io.atomic_write import check_writable
from detector.io.decoding import Decoded, read_file
from detector.io.output_paths import ProtectedFiles, check_not_overwriting
from detector.io.result_files import (
    FOLDERS,
    FailuresFile,
    Format,
    JsonFile,
    JsonLines,
    Result,
    ResultFile,
    VocFolder,
    YoloFolder,
    open_result_file,
)
from detector.io.terminal_text import one_line, printable, printable_path, valid_name
from detector.io.video import Video
from detector.structures.classes import ClassList
from detector.structures.explanation import Factor, product_of

_STANDARD_OUTPUT = Path("-")

F = TypeVar("F")


@dataclass(frozen=True)
class Output:
    """Where results go, and in which form."""

    path: Path
    form: Format


@dataclass(frozen=True)
class Picture:
    """A picture to be looked at: of a file, or with its ``pixels`` a frame of a video."""

    entry: Entry
    pixels: Decoded | None = None
    frame: int | None = None
    seconds: float = 0.0
    rate: float = 0.0
    """Frames that are looked at a second of the video."""

    @property
    def name(self) -> str:
        """The picture's name, with a frame's number: ``clip.mp4#7``."""
        return valid_name(self.entry.path) + ("" if self.frame is None else f"#{self.frame}")

    def read(self) -> Decoded:
        """Decode it. Raises ImageError or OSError."""
        if self.pixels is not None:
            return self.pixels
        path = self.entry.path
        if not self.entry.named and not stat.S_ISREG(path.stat().st_mode):
            raise OSError(EINVAL, "is no file")  # a pipe would wait for ever
        return read_file(path)


@dataclass(frozen=True)
class Looked(Generic[F]):
    """A picture that was looked at, and what was ``found``; its pixels only if the run needs them again."""

    picture: Picture
    width: int
    height: int
    frames: int
    pixels: NDArray[np.uint8] | None
    found: F


class ImageRun:
    """A run over pictures, as a context: at its end the results are written, however it ends.

    ``kind`` is the key of a picture's results (``detections``, ``classes``). Without outputs, results are
    printed as they come. Leaving the context raises SystemExit with status 1 if anything went wrong, and
    with 128 and the signal's number after an interruption. A second signal ends the process at once.
    """

    def __init__(
        self,
        kind: str,
        outputs: Sequence[Output] = (),
        *,
        draw_folder: Path | None = None,
        crops_folder: Path | None = None,
        explain_folder: Path | None = None,
        errors_file: Path | None = None,
        resume: bool = False,
        every: int = 1,
    ) -> None:
        """Check where the results go.

        ``draw_folder``, ``crops_folder`` and ``explain_folder`` get drawn pictures, cut out objects and drawn
        explanations; ``errors_file`` a line for each picture that failed, in JSON. With ``resume``
        pictures whose results the JSON lines among the outputs hold are not looked at again. ``every`` is how
        many frames of a video a look is taken at.

        Raises WriteError, and ParameterError where there is nothing to go on with.
        """
        self._kind = kind
        self._outputs = list(outputs)
        self._resume, self._every = resume, every
        lines = next((output.path for output in outputs if output.form is Format.JSONL), None)
        if resume and lines is None:
            raise ParameterError("--resume goes on with the file of --jsonl: name it")
        beside = None if lines is None or _is_device(lines) else lines
        if errors_file is None and beside is not None:
            errors_file = beside.with_suffix(".errors.jsonl")
        self._quarantine_file = None if beside is None else beside.with_suffix(".quarantine.json")
        self._quarantine = Quarantine(self._quarantine_file, resume=resume)
        self._errors_file = errors_file
        self._errors = None if errors_file is None else FailuresFile(errors_file)
        self._files: list[tuple[Output, ResultFile]] = []
        self._total = self._seen = self._failed = self._found = 0
        self._incomplete = False
        self._taken = ProtectedFiles([])
        self._context = ExitStack()
        self._progress: Progress | None = None
        for output in outputs:
            if output.path != _STANDARD_OUTPUT:
                check_writable(output.path / "1.txt" if output.form in FOLDERS else output.path)
        self._drawings = Drawings(
            draw_folder, crops_folder, explain_folder, lambda place: self._taken.add(place)
        )

    def __enter__(self) -> Self:
        self._context.enter_context(interruptible())
        self._context.enter_context(self._quarantine)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish_drawings(None if isinstance(error, Interrupted) else error)
            if self._progress is not None:
                self._progress.close()
            if self._found or error is None:  # nothing found by a run that failed replaces no older file
                self._write()
            if isinstance(error, Interrupted):
                kept = "" if self._found else "; nothing was found yet"
                tell(f"interrupted after {self._seen} of {self._total} pictures{kept}")
                raise SystemExit(128 + error.number)
        finally:
            self._context.close()
        if error is not None:
            return
        if self._failed and self._total > 1:
            tell(f"{self._failed} of {self._total} pictures failed")
        if self._failed or self._incomplete:
            raise SystemExit(1)

    def find(self, named: Sequence[Path], weights: Sequence[Path] = ()) -> list[Entry]:
        """Find the pictures: files, folders, patterns, lists and videos (:mod:`detector.cli.inputs`).

        Drawings of other runs that lie in a folder are passed over, which is told, and so is a folder without
        pictures, and how many it has of kinds that are not read. Raises SystemExit, with status 1, if there
        is none at all, and ParameterError if the results would replace one of them, or the weights.
        """
        inputs = Inputs(tell)
        entries = inputs.expand(named)
        self._incomplete |= inputs.incomplete
        if inputs.drawings:
            note(
                f"{inputs.drawings} drawings of other runs are passed over; one that is named by itself is "
                "looked at"
            )
        self._total = len(entries)
        self._taken = ProtectedFiles([*(entry.path for entry in entries), *weights])
        files = [output.path for output in self._outputs if output.form not in FOLDERS]
        for path in [*files, self._errors_file, self._quarantine_file]:
            if path is not None and path != _STANDARD_OUTPUT:
                self._taken.add(path)
                check_not_overwriting(path)
        if not entries:
            self._open_files(None)
            self._write()
            raise SystemExit(1)
        return entries

    def look(
        self,
        entries: Sequence[Entry],
        work: Callable[[Decoded, Executor], F],
        classes: ClassList,
        streams: int,
    ) -> Iterator[Looked[F]]:
        """Do ``work`` on each picture, several at a time; yield what was found, in order.

        One that cannot be read is told and counted; what an earlier run has found is passed over. ``streams``
        is that of :func:`detector.inference.streaming.stream`.
        """
        self._open_files(classes)
        done = self._earlier(entries)
        self._show_progress(entries, sum(done.values()))

        def look(picture: Picture, executor: Executor) -> Looked[F]:
            image = picture.read()
            height, width = image.pixels.shape[:2]
            found = work(image, executor)
            pixels = image.pixels if self._drawings.wanted else None
            return Looked(picture, width, height, image.frames, pixels, found)

        def do(picture: Picture, executor: Executor) -> Looked[F]:
            return self._quarantine.look(picture.name, lambda: look(picture, executor))

        with closing(stream(self._pictures(entries, done), do, streams=streams)) as results:  # type: ignore[type-var]
            for picture, looked in results:
                if isinstance(looked, DetectorError | OSError):
                    self._fail(picture.entry.path, looked, picture.frame)
                elif isinstance(looked, Exception):
                    raise looked
                else:
                    yield looked
                self._count()

    def save_drawing(self, looked: Looked[Any], drawn: NDArray[np.uint8]) -> None:
        """Save the drawing [H,W,3] of a picture, or add it to its video; one that cannot be written is told.

        This and the methods that follow come before :meth:`add`: what a killed run has a row of, it has
        the drawing of too.
        """
        picture = looked.picture
        with self._told_of(picture):
            if picture.frame is None:
                self._drawings.save_picture(self._found + 1, picture.entry, drawn)
            else:
                self._drawings.save_frame(self._found + 1, picture.entry, picture.rate, drawn)

    def save_crops(self, looked: Looked[Any], crops: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
        """Save what was cut out of a picture; ``crops`` are names of classes and pixels [H,W,3]. What cannot
        be written is told."""
        with self._told_of(looked.picture):
            self._drawings.save_crops(self._found + 1, looked.picture.entry, crops)

    def save_explanations(self, looked: Looked[Any], drawn: Iterable[NDArray[np.uint8]]) -> None:
        """Save drawn explanations [H,W,3] of a picture. What cannot be written is told."""
        with self._told_of(looked.picture):
            self._drawings.save_explanations(self._found + 1, looked.picture.entry, drawn)

    def add(self, looked: Looked[Any], found: list[dict[str, Any]]) -> None:
        """Keep what was found in a picture, and print it where it goes into no file."""
        path = looked.picture.entry.path
        about: Result = {"image": valid_name(path), "width": looked.width, "height": looked.height}
        if looked.picture.frame is None:
            about["frames"] = looked.frames
        else:
            about |= {"frame": looked.picture.frame, "seconds": round(looked.picture.seconds, 3)}
        result = {**about, self._kind: found}
        self._keep(result, path, looked.picture.entry.below, [file for _, file in self._files])
        if not self._outputs:
            frame = "" if looked.picture.frame is None else f" frame {looked.picture.frame}"
            lines = [f"{printable_path(path)}{frame} ({looked.width}x{looked.height})"]
            for entry in found:
                label = printable(entry["label"])
                lines.append(f"  {entry['score']:6.1%}  {label:<24}{_line_of(entry.get('box'))}")
                if "explanation" in entry:
                    lines.append(f"          = {_factors_of(entry['explanation'])}")
            print("\n".join(lines), flush=True)
            if not self._drawings.wanted and output_is_lost():
                raise SystemExit(1)  # nothing else is made of the pictures that are left

    def _finish_drawings(self, error: BaseException | None) -> None:
        try:
            self._drawings.close(error)
        except WriteError as lost:  # the results are still to be written
            self._incomplete = True
            self._say(f"error: {lost}")

    @contextmanager
    def _told_of(self, picture: Picture) -> Iterator[None]:
        try:
            yield
        except (ParameterError, WriteError) as error:
            self._fail(picture.entry.path, error, picture.frame)

    def _pictures(self, entries: Sequence[Entry], done: Counter[tuple[str, int | None]]) -> Iterator[Picture]:
        """Yield what is to be looked at; frames are read here, one after the other."""
        for entry in entries:
            name = valid_name(entry.path)
            if not entry.is_video:
                if done[name, None]:
                    done[name, None] -= 1
                else:
                    yield Picture(entry)
                continue
            try:
                with Video(entry.path) as video:
                    for frame in video.every(self._every):
                        if done[name, frame.number]:
                            done[name, frame.number] -= 1
                        else:
                            yield Picture(
                                entry,
                                Decoded(frame.pixels),
                                frame.number,
                                frame.seconds,
                                video.rate / self._every,
                            )
                    if video.seems_cut_off:
                        self._say(
                            f"{printable_path(entry.path)}: {video.read} frames could be read, and it states "
                            f"{video.frames}: it may be cut off"
                        )
            except (ImageError, OSError) as error:
                self._fail(entry.path, error)
                self._count()

    def _show_progress(self, entries: Sequence[Entry], done: int) -> None:
        """Count the frames of videos; show a bar with rate and time left where results do not go to the
        terminal."""
        for entry in entries:
            if entry.is_video:
                try:
                    with Video(entry.path) as video:
                        self._total += -(-video.frames // self._every) - 1
                except (ImageError, OSError):
                    pass  # told when it is its turn
        if self._outputs:
            self._progress = Progress(self._total, done, "pictures", in_logs=False)
        self._seen = done

    def _count(self) -> None:
        self._seen += 1
        if self._progress is not None:
            self._progress.add()

    def _open_files(self, classes: ClassList | None) -> None:
        for output in self._outputs:
            if classes is not None:
                file = open_result_file(output.path, output.form, classes, resume=self._resume)
                self._files.append((output, file))
            elif output.form is Format.JSON:  # nothing was found, which is a result too
                self._files.append((output, JsonFile(output.path)))

    def _earlier(self, entries: Sequence[Entry]) -> Counter[tuple[str, int | None]]:
        """Take what an earlier run has found into all files; return how often each picture was looked at."""
        done: Counter[tuple[str, int | None]] = Counter()
        if not self._resume:
            return done
        below = {valid_name(entry.path): entry.below for entry in entries}
        lines = next(file for _, file in self._files if isinstance(file, JsonLines))
        others = [file for _, file in self._files if file is not lines]
        for result in lines.earlier(self._kind):
            name = result["image"]
            done[name, result.get("frame")] += 1
            self._keep(result, Path(name), below.get(name, Path(Path(name).name)), others)
        return done

    def _keep(self, result: Result, path: Path, below: Path, files: Sequence[ResultFile]) -> None:
        """Put a picture's results into files; one of its own that cannot be written is told."""
        self._found += 1
        for file in files:
            try:
                file.add(result, below)
            except WriteError as error:
                if not isinstance(file, YoloFolder | VocFolder):
                    raise
                self._fail(path, error, result.get("frame"))

    def _fail(self, path: Path, error: DetectorError | OSError, frame: int | None = None) -> None:
        self._failed += 1
        why = reason(error).removeprefix(f"{path}: ")
        shown = printable_path(path) + ("" if frame is None else f" frame {frame}")
        self._say(f"error: {shown}: {why}")
        if self._errors is not None:
            told = {"image": valid_name(path), "error": getattr(error, "code", "unreadable"), "message": why}
            self._errors.add(told | ({} if frame is None else {"frame": frame}))

    def _say(self, message: str) -> None:
        if self._progress is None:
            note(message)
        else:
            self._progress.say(one_line(message, limit=2000))

    def _write(self) -> None:
        if self._errors is not None:
            self._errors.close()
        for output, file in self._files:
            if isinstance(file, JsonFile) and output.path == _STANDARD_OUTPUT:
                print(file.text(), flush=True)
                continue
            try:
                file.close()
            except WriteError as error:
                self._incomplete = True
                if not isinstance(file, JsonFile) or _is_standard_output(output.path):
                    tell(str(error))
                    continue
                tell(f"{error}; the results follow on standard output")
                print(file.text(), flush=True)


def _is_device(path: Path) -> bool:
    """Tell whether a path is of something else than a file, such as standard output."""
    return path.exists() and not path.is_file()


def _is_standard_output(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def _factors_of(explanation: dict[str, Any]) -> str:
    factors = explanation["factors"]
    return product_of(Factor(factor["name"], factor["value"], factor["power"]) for factor in factors)


def _line_of(box: dict[str, float] | None) -> str:
    return "" if box is None else "  ".join(f"{value:7.1f}" for value in box.values())
