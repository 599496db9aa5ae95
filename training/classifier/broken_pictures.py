"""Pictures that cannot be read: each is named once, and a run stops only when there are many."""

from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from detector.errors import DatasetError


class BrokenPictures:
    """Those met so far, also before a kill: ``path`` lists them, one a line, as a list to clean up by."""

    def __init__(self, path: Path, limit: int) -> None:
        """More than ``limit`` of them, and something is wrong with the data and not with a picture."""
        self._path, self._limit = path, limit
        self._known = set(path.read_text().splitlines()) if path.exists() else set()

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
        with self._path.open("a") as file:
            file.writelines(f"{name}\n" for name in new)
        self._known |= new.keys()
        if len(self._known) > self._limit:
            raise DatasetError(
                f"{len(self._known)} pictures could not be read, more than the {self._limit} that are "
                f"skipped; {self._path} lists them. Mend them or take them off the lists, or give a larger "
                "--max-broken; then the same command goes on"
            )
