"""Pictures that a run leaves out, as lists name them."""

from collections.abc import Sequence
from pathlib import Path

from detector.datasets.formats.ilsvrc import read_list
from detector.io.terminal_text import printable_path


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
