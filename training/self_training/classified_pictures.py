"""Pictures with a class each and no box: a folder with a sub-folder a class, or a list file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from detector.datasets.formats.list_files import relative
from detector.datasets.formats.text_files import all_lines
from detector.datasets.formats.values import shown
from detector.datasets.problems import ProblemLog
from detector.errors import DatasetError
from detector.io.image_paths import images_below, is_system_file, unread_kinds
from detector.io.readable_files import is_file, why_absent
from detector.structures.classes import ClassList, class_aliases, cls_to_det, ilsvrc_cls, ilsvrc_det
from training.rcnn.mixing import labels_in


@dataclass(frozen=True)
class ClassifiedPicture:
    """One picture and the one class that is known to be in it.

    ``name`` is its path below the folder of the pictures, with ``/``; ``label`` indexes the classes of the
    detector.
    """

    name: str
    path: Path
    label: int


def read_classified(
    folder: Path, list_file: Path | None, classes: ClassList, log: ProblemLog
) -> list[ClassifiedPicture]:
    """Read the pictures of a folder, or those that a list file names, whose class is one of ``classes``.

    Without a list each sub-folder is a class, and all below it are its pictures. A line of a list is a path
    below the folder, a tab, and a class; lines that begin with ``#`` are comments. A class is named by its
    id, its name or an alias (:func:`detector.structures.classes.class_aliases`), or by one of the 1000
    synsets that belong to it. What is of no such class, or not there, is reported to ``log`` and left out.

    Raises DatasetError for what is no such folder or list, or where no picture is of a class that is known.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder: give the folder of the pictures")
    pairs = _listed(folder, list_file, log) if list_file is not None else _in_folders(folder, log)
    names = list(dict.fromkeys(class_name for _, class_name in pairs))
    label_of = dict(zip(names, _Synsets(classes).labels(names), strict=True))
    for name in names:
        if label_of[name] < 0:
            count = sum(class_name == name for _, class_name in pairs)
            message = f"the detector knows no class {shown(name)}: its pictures ({count}) are left out"
            log.report(name, "unknown_class", message)
    found = [
        ClassifiedPicture(name, folder / name, label_of[class_name])
        for name, class_name in pairs
        if label_of[class_name] >= 0
    ]
    if not found:
        wanted = "in sub-folders that are called like" if list_file is None else "with"
        where = folder if list_file is None else list_file
        raise DatasetError(
            f"{where} has no picture {wanted} a class of the detector ({_some(classes.names)}); "
            f"its classes are {_some(names) if names else 'none'}"
        )
    return found


def _in_folders(folder: Path, log: ProblemLog) -> list[tuple[str, str]]:
    """Return the name of each picture below a sub-folder, and the name of that sub-folder, sorted."""
    pairs: list[tuple[str, str]] = []
    unread: list[Path] = []
    for below in sorted(path for path in folder.iterdir() if path.is_dir() and not is_system_file(path.name)):
        pairs += [
            (path.relative_to(folder).as_posix(), below.name)
            for path in images_below(below, on_unread=unread.append)
        ]
    if unread:
        log.report(str(folder), "unread_kind", f"{folder}: {unread_kinds(unread)}")
    return pairs


def _listed(folder: Path, list_file: Path, log: ProblemLog) -> list[tuple[str, str]]:
    """Return the name and the class of each picture of a list that is there, in its order, once.

    Raises DatasetError, naming the line, for one that cannot be understood, for a path that leads out of the
    folder, and for a picture that has two classes.
    """
    classes: dict[str, str] = {}
    for number, line in enumerate(all_lines(list_file), start=1):
        if not line or line.startswith("#"):
            continue
        where = f"{list_file}, line {number}"
        path, _, class_name = (part.strip() for part in line.partition("\t"))
        if not path or not class_name or "\t" in class_name:
            raise DatasetError(f"{where}: a path, a tab and a class belong there, not {shown(line)}")
        name = PurePosixPath(relative(path)).as_posix()
        if name.startswith("/") or ".." in name.split("/"):
            raise DatasetError(f"{where}: {shown(path)} leads out of {folder}: give a path below that folder")
        if classes.setdefault(name, class_name) != class_name:
            raise DatasetError(
                f"{where}: {shown(path)} has the class {shown(class_name)}, but {shown(classes[name])} in an "
                "earlier line: leave one of the two"
            )
    if not classes:
        raise DatasetError(f"list file {list_file} is empty: it must name a picture and its class a line")
    absent = [name for name in classes if not is_file(folder / name)]
    for name in absent:
        log.report(name, "missing_image", f"{list_file} names {folder / name}, which {_why(folder / name)}")
    return [pair for pair in classes.items() if pair[0] not in set(absent)]


def _why(path: Path) -> str:
    return "is a folder" if path.is_dir() else why_absent(path)


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True)
class _Synsets:
    """Finds the labels of class names, also of the synsets that belong to a class: a hen is a bird."""

    classes: ClassList

    def labels(self, names: Sequence[str]) -> list[int]:
        """Return the label of each name, -1 where there is none."""
        return [
            label if label >= 0 else self._of_kind(name)
            for name, label in zip(names, labels_in(names, self.classes).tolist(), strict=True)
        ]

    def _of_kind(self, name: str) -> int:
        parents = {self._parents[wnid] for wnid in class_aliases(name, name) if wnid in self._parents}
        return int(labels_in([*parents], self.classes)[0]) if len(parents) == 1 else -1

    @cached_property
    def _parents(self) -> dict[str, str]:
        """The id of the detection class that a synset belongs to, by the synset's id."""
        pairs = zip(ilsvrc_cls().ids, cls_to_det(), strict=True)
        return {wnid: ilsvrc_det().ids[label] for wnid, label in pairs if label >= 0}
