"""What a run writes into its folder, and that none of it replaces what the run reads."""

from collections.abc import Iterable
from pathlib import Path

from detector.apart import check_apart
from detector.errors import ParameterError
from detector.files import check_writable
from detector.picture_paths import has_picture_suffix
from detector.text import printable_path, valid_name

_NAMES = (
    "detector.safetensors", "best.safetensors", "last.safetensors", "state.safetensors", "log.jsonl",
    "held_out.jsonl", "recall.jsonl", "accuracy.jsonl", "broken.txt", "report.html", "figures.json",
)  # fmt: skip
"""The files of all scripts that train; further ones have folders of their own."""


def check_run_folder(
    output: Path, inputs: Iterable[Path | None], data: Iterable[Path], members: int = 1
) -> None:
    """Find out, before work is done, whether a run's files can be written, replace nothing that is read, and
    are not taken for data.

    ``inputs`` are files that are read (weights to start from, lists), None for one that was not given;
    ``data`` are folders of data sets. That a file of the same run is there already is no fault: the run goes
    on. Raises ParameterError, or WriteError for a place that cannot be written to.
    """
    folders = [output] if members == 1 else [output, *(output / f"member-{n + 1}" for n in range(members))]
    files = [folder / name for folder in folders for name in _NAMES]
    check_apart(files, inputs)
    check_folder_apart(output, data)
    for path in files:
        check_writable(path)
    check_utf8(output)


def check_utf8(folder: Path) -> None:
    """Raises ParameterError for a folder whose name the libraries that write maps and states cannot take."""
    if valid_name(folder) != str(folder):
        raise ParameterError(
            f"{printable_path(folder)} has a name that is not UTF-8, which maps and states cannot be written "
            "below: name another folder with --output (and --cache, where there is one)"
        )


def check_folder_apart(output: Path, data: Iterable[Path]) -> None:
    """Raises ParameterError for a folder to write into that is a data set's own, or holds pictures."""
    place = output.resolve()
    for root in data:
        within = place.is_relative_to(root.resolve())
        if place == root.resolve() or (within and _holds_pictures(output)):
            raise ParameterError(
                f"{printable_path(output)} is a folder of the data in {printable_path(root)}: what is made "
                "of it would lie among it; name another folder"
            )


def _holds_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(has_picture_suffix(path.name) for path in folder.iterdir())
