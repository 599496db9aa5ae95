"""The list files of a YOLO data set: the path of a picture a line."""

import os
from pathlib import Path

from detector.datasets.annotated_image import Problem
from detector.datasets.formats.coco import relative
from detector.datasets.formats.files import all_lines, joined
from detector.datasets.formats.values import shown
from detector.datasets.presence import LONGEST, is_file, why_absent
from detector.datasets.split_names import split_of

ENDS = 32
"""So many of the last folders of a path of another machine are looked for here."""


def images_of_list(place: Path) -> tuple[list[Path], list[Problem]]:
    """The pictures that a list file names, and a problem for each line that can name none; of lines that are
    the same, the first counts."""
    images, problems = [], []
    numbers: dict[str, int] = {}
    for number, line in enumerate(all_lines(place), start=1):
        numbers.setdefault(line, number)
    numbers.pop("", None)
    for line, number in numbers.items():
        image = _listed(place, line)
        if isinstance(image, Path):
            if not line.startswith("#") or is_file(image):
                images.append(image)
        elif not line.startswith("#"):
            message = f"{place}, line {number}: {shown(line)} {image}, so that no picture is called so"
            problems.append(Problem(f"{place.name}, line {number}", "missing_image", message))
    return images, problems


def _listed(place: Path, line: str) -> Path | str:
    """The picture that a line of a list names, or why it can name none: relative to the list; or the end of
    the path beside it, where the line begins with folders of another machine (CVAT's
    ``data/obj_train_data/a.jpg``)."""
    if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'":
        line = line[1:-1]
    if len(os.fsencode(line)) > LONGEST:
        return "is longer than a path may be"
    path = Path(os.path.normpath(place.parent / line))
    if is_file(path):
        return path
    whole = relative(line)
    if not is_file(place.parent / whole):
        whole = Path(line.replace("\\", "/"))  # some of it by Windows
    count = len(whole.parts)
    ends = (relative(whole.as_posix(), dropped) for dropped in range(max(0, count - ENDS), count))
    split = split_of(whole.parent)
    same = (place.parent / end for end in ends if split_of(end.parent) == split)
    found = next((Path(os.path.normpath(one)) for one in same if is_file(one)), None)
    found = None if joined(whole) else found
    if found is not None:
        return found
    why = why_absent(path)
    return why if why.startswith("cannot") or not path.name else path
