"""Images that a run leaves out: those that lists name, and those that cannot be read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from detector.datasets.formats.ilsvrc import read_list
from detector.datasets.load_image import tolerated
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from detector.io.terminal_text import printable_path
from training.trainer.command_errors import add_path_to_errors


class Exclusion:
    """The image names in list files, as in ImageSets: the first column of each line.

    Folders in a name are ignored. What follows a dot may be a suffix or a part of the name: both are tried.
    """

    def __init__(self, lists: Sequence[Path]) -> None:
        """Read the lists. Raises DatasetError for one that cannot be read."""
        self._names = {path: _listed(path) for path in lists}
        self._met: set[str] = set()

    def __contains__(self, name: object) -> bool:
        """Tell whether an image, by its name without folder and suffix, is left out."""
        listed = any(name in names for names in self._names.values())
        if listed and isinstance(name, str):
            self._met.add(name)
        return listed

    def unused(self) -> list[str]:
        """Return a message for each list that had no effect: it may belong to another data set."""
        return [
            f"--exclude {printable_path(path)} names no picture that is here: nothing is left out for it"
            for path, names in self._names.items()
            if names.isdisjoint(self._met)
        ]


def _listed(path: Path) -> set[str]:
    names = [Path(columns[0]) for columns in read_list(path)]
    return {name.name for name in names} | {name.stem for name in names}


class BrokenImages:
    """The images that a run could not read, listed in ``path``, one a line, also across kills.

    Names are written as the disk has them, also those that are not UTF-8. A run goes on without these images,
    and stops when there are many.
    """

    def __init__(self, path: Path, limit: int, advice: str = "", *, writes: bool = True) -> None:
        """Allow for at most ``limit`` of them: with more the fault is not in single images.

        ``advice`` says how a run can go on without mending them ("give a larger --max-broken"). Of several
        processes that meet the same images, one ``writes``.
        """
        self._path, self._limit, self._advice, self._writes = path, limit, advice, writes
        *whole, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]  # a kill may leave half a line
        self._known = {os.fsdecode(name) for name in whole if name}

    @classmethod
    def of_run(
        cls, output: Path, images: int, on_problem: OnProblem, *, writes: bool = True
    ) -> "BrokenImages":
        """Return those of a run in the folder ``output`` over so many ``images``, listed in its
        ``broken.txt``: none is left out, or as many as are :func:`tolerated`, as ``on_problem`` says."""
        if on_problem is OnProblem.STOP:
            advice = "give --on-problem report, which leaves them out"
            return cls(output / "broken.txt", 0, advice, writes=writes)
        return cls(output / "broken.txt", tolerated(images), writes=writes)

    def __len__(self) -> int:
        return len(self._known)

    def report(self, broken: Mapping[str, str]) -> None:
        """List those that are new; ``broken`` holds the reason by the image's name.

        Raises DatasetError when there are too many.
        """
        new = {name: reason for name, reason in broken.items() if name not in self._known}
        if not new:
            return
        if self._writes:
            for name, reason in new.items():
                tqdm.write(f"left out {name}: {reason}")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with add_path_to_errors(self._path), self._path.open("ab") as file:
                file.writelines(os.fsencode(name) + b"\n" for name in new)
        self._known |= new.keys()
        if len(self._known) > self._limit:
            name, reason = next(iter(new.items()))
            raise DatasetError(
                f"{len(self._known)} pictures could not be read, more than the {self._limit} that may be "
                f"left out, {name} among them ({reason}); {self._path} lists them. Mend them or take them "
                f"off the lists{self._advice and f', or {self._advice}'}; then the same command goes on"
            )
