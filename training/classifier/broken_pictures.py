"""Pictures that cannot be read: each is named once, and a run stops only when there are many."""

import os
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from detector.errors import DatasetError


class BrokenPictures:
    """Those met so far, also before a kill: ``path`` lists them, one a line, as a list to clean up by;
    names stand there as the disk has them, also those that are not UTF-8."""

    def __init__(self, path: Path, limit: int) -> None:
        """More than ``limit`` of them, and something is wrong with the data and not with a picture."""
        self._path, self._limit = path, limit
        known = path.read_bytes().split(b"\n") if path.exists() else []
        self._known = {os.fsdecode(name) for name in known if name}

    def report(self, broken: Mapping[str, str]) -> None:
        """Name the new ones: ``broken`` says of each picture why it cannot be read.

        Raises DatasetError when there are too many.
        """
        new = {name: why for name, why in broken.items() if name not in self._known}
        if not new:
            return
        for name, why in new.items():
            tqdm.write(f"skipped {name}: {why}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.writelines(os.fsencode(name) + b"\n" for name in new)
        self._known |= new.keys()
        if len(self._known) > self._limit:
            raise DatasetError(
                f"{len(self._known)} pictures could not be read, more than the {self._limit} that are "
                f"skipped; {self._path} lists them. Mend them or take them off the lists, or give a larger "
                "--max-broken; then the same command goes on"
            )
