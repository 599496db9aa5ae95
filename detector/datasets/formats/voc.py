"""Reader of PASCAL VOC, and of anything labelled in its layout."""

from pathlib import Path

from detector.datasets.annotated_image import Dataset, OnProblem, ProblemLog
from detector.datasets.annotation_check import ImageCheck
from detector.datasets.entries import read_entries
from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.voc_folder import (
    VocFolder,
    list_path,
    official_pairs,
    pairs_of_lists,
    voc_home,
)
from detector.datasets.formats.voc_images import ImageFinder
from detector.datasets.formats.voc_xml import parse_voc_xml
from detector.structures.classes import ClassList, voc


def read_voc(
    root: Path,
    split: str | Path | None = None,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: ImageCheck = True,
) -> Dataset:
    """Read the pictures and boxes of a folder in the layout of PASCAL VOC.

    root:
        The folder that holds ``JPEGImages`` and ``Annotations``, or one above it: that of ``VOC2007``, or
        of ``VOCdevkit``.
    split:
        A list of ``ImageSets/Main`` by its name (``trainval``), or a list file of your own by its path:
        one picture id a line, further columns are passed over. None reads every annotated picture, by name.
    classes:
        The classes to read; the 20 official ones by default. Objects of others are problems.
    on_problem, check_pictures:
        As for :func:`detector.datasets.formats.ilsvrc_det.read_ilsvrc_det`.

    Files count pixels from 1. Objects marked ``difficult`` are read like all others and carry their mark:
    they are objects, to be proposed and learnt; it is VOC's own average precision that leaves them aside.

    Raises DatasetError if the layout is another one, a list cannot be read, or at the first problem with
    ``OnProblem.STOP``.
    """
    classes = voc() if classes is None else classes
    home = voc_home(root)
    tree = FolderTree.scan(home)
    every = official_pairs(home, ImageFinder(tree, parse_voc_xml))
    log = ProblemLog(on_problem)
    if split is None:
        entries = VocFolder.of({}, every, classes).entries(None)
    else:
        is_path = isinstance(split, Path) or split.endswith(".txt")
        path = Path(split) if is_path else list_path(home, str(split))
        entries = VocFolder.of({"": pairs_of_lists(home, [path], every)}, every, classes).entries("")
    return Dataset(read_entries(entries, log, check_images), list(classes.ids), log.problems)
