"""Reader of PASCAL VOC, and of anything labelled in its layout."""

from pathlib import Path

from detector.classes import ClassList, voc
from detector.datasets.ilsvrc import read_list
from detector.datasets.problems import OnProblem, ProblemLog
from detector.datasets.record import Dataset
from detector.datasets.voc_record import VocRecordReader
from detector.errors import DatasetError

_SUFFIXES = (".jpg", ".jpeg", ".JPG", ".JPEG", ".png")  # the first is the official one


def read_voc(
    root: Path,
    split: str | Path | None = None,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_pictures: bool = True,
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
        As for :func:`detector.datasets.ilsvrc_det.read_ilsvrc_det`.

    Files count pixels from 1. Objects marked ``difficult`` are read like all others and carry their mark:
    they are objects, to be proposed and learnt; it is VOC's own average precision that leaves them aside.

    Raises DatasetError if the layout is another one, a list cannot be read, or at the first problem with
    ``OnProblem.STOP``.
    """
    classes = voc() if classes is None else classes
    home = voc_home(root)
    reader = VocRecordReader(classes.index(), ProblemLog(on_problem), check_pictures, first_pixel=1)
    found = (
        reader.read(image_id, _picture(home, image_id), home / f"Annotations/{image_id}.xml")
        for image_id in _image_ids(home, split)
    )
    records = [record for record in found if record is not None]
    return Dataset(records, list(classes.ids), reader.log.problems)


def is_voc(root: Path) -> bool:
    """Whether ``root`` or a folder that it holds is in the layout that :func:`read_voc` reads."""
    return bool(voc_homes(root))


def voc_home(root: Path) -> Path:
    """The one folder with ``JPEGImages`` and ``Annotations``; DatasetError if there is none or several."""
    homes = voc_homes(root)
    if not homes:
        raise DatasetError(
            f"{root} holds no JPEGImages/ and Annotations/: give the folder that does, as PASCAL VOC lays it "
            "out (VOCdevkit/VOC2007)"
        )
    if len(homes) > 1:
        raise DatasetError(f"{root} holds {len(homes)} data sets: give one of {', '.join(map(str, homes))}")
    return homes[0]


def voc_homes(root: Path) -> list[Path]:
    """The folders with ``JPEGImages`` and ``Annotations``: ``root`` itself, or those of one level below."""
    candidates = [root], sorted(root.glob("VOC*")), sorted(root.glob("VOCdevkit/VOC*"))
    for level in candidates:
        homes = [
            path for path in level if all((path / part).is_dir() for part in ("JPEGImages", "Annotations"))
        ]
        if homes:
            return homes
    return []


def _image_ids(home: Path, split: str | Path | None) -> list[str]:
    if split is None:
        return sorted(path.stem for path in (home / "Annotations").glob("*.xml"))
    is_path = isinstance(split, Path) or split.endswith(".txt")
    path = Path(split) if is_path else home / f"ImageSets/Main/{split}.txt"
    return [columns[0] for columns in read_list(path)]


def _picture(home: Path, image_id: str) -> Path:
    paths = [home / f"JPEGImages/{image_id}{suffix}" for suffix in _SUFFIXES]
    return next((path for path in paths if path.exists()), paths[0])
