"""Pictures that a run leaves out, as lists name them.

Pictures that cannot be read: each is named once, and a run stops only when there are many.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from detector.datasets.formats.ilsvrc_det import read_list
from detector.errors import DatasetError
from detector.io.terminal_text import printable_path
from training.trainer.script import naming


class Exclusion:
    """The names in list files (as in ImageSets: a name, and what else there may be, in a line).

    Folders in a list are passed over. What follows a dot may be a suffix or a part of the name: both are
    tried. A list of which no name was met is told, for it may be another data set's.
    """

    def __init__(self, lists: Sequence[Path]) -> None:
        """Raises DatasetError for a list that cannot be read."""
        self._names = {path: _listed(path) for path in lists}
        self._met: set[str] = set()

    def __contains__(self, name: object) -> bool:
        """Whether a picture, by its name without folder and suffix, is left out."""
        listed = any(name in names for names in self._names.values())
        if listed and isinstance(name, str):
            self._met.add(name)
        return listed

    def unused(self) -> list[str]:
        """Say of each list of which no name was met that it had no effect."""
        return [
            f"--exclude {printable_path(path)} names no picture that is here: nothing is left out for it"
            for path, names in self._names.items()
            if names.isdisjoint(self._met)
        ]


def _listed(path: Path) -> set[str]:
    names = [Path(columns[0]) for columns in read_list(path)]
    return {name.name for name in names} | {name.stem for name in names}


class BrokenImages:
    """Those met so far, also before a kill: ``path`` lists them, one a line, as a list to clean up by; names
    stand there as the disk has them, also those that are not UTF-8."""

    def __init__(self, path: Path, limit: int, advice: str = "", *, writes: bool = True) -> None:
        """More than ``limit`` of them, and something is wrong with the data and not with a picture.

        ``advice`` says how else a run goes on than by mending them ("give a larger --max-broken"). Of several
        processes that meet the same ones, one ``writes`` them down.
        """
        self._path, self._limit, self._advice, self._writes = path, limit, advice, writes
        *whole, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]  # a kill may leave half a line
        self._known = {os.fsdecode(name) for name in whole if name}

    def __len__(self) -> int:
        return len(self._known)

    def report(self, broken: Mapping[str, str]) -> None:
        """Name the new ones: ``broken`` says of each picture why it cannot be read.

        Raises DatasetError when there are too many.
        """
        new = {name: why for name, why in broken.items() if name not in self._known}
        if not new:
            return
        if self._writes:
            for name, why in new.items():
                tqdm.write(f"left out {name}: {why}")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with naming(self._path), self._path.open("ab") as file:
                file.writelines(os.fsencode(name) + b"\n" for name in new)
        self._known |= new.keys()
        if len(self._known) > self._limit:
            name, why = next(iter(new.items()))
            raise DatasetError(
                f"{len(self._known)} pictures could not be read, more than the {self._limit} that may be "
                f"left out, {name} among them ({why}); {self._path} lists them. Mend them or take them off "
                f"the lists{self._advice and f', or {self._advice}'}; then the same command goes on"
            )
