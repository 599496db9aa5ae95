"""The images of each split that a YOLO description names: folders and list files."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from detector.datasets.folder_tree import FolderTree, unread_folders
from detector.datasets.formats.list_files import joined, relative
from detector.datasets.formats.text_files import all_lines
from detector.datasets.formats.values import shown
from detector.datasets.formats.yaml_file import is_null
from detector.datasets.formats.yolo_description import ENDS, SPLITS, YoloDescription, kind_of
from detector.datasets.problems import Problem
from detector.datasets.split_names import split_of
from detector.errors import DatasetError
from detector.io.image_paths import IMAGE_SUFFIXES, has_image_suffix
from detector.io.readable_files import LONGEST, is_file, why_absent
from detector.io.terminal_text import one_line

_MOST_FOLDERS = 100_000  # in a folder outside the data set, which may be all of somebody's disk


@dataclass(frozen=True)
class Listed:
    """The pictures of each split, and what was found wrong with the list that names them."""

    images: dict[str, list[Path]] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)


def images_of_splits(description: YoloDescription, tree: FolderTree) -> Listed:
    """Return the pictures of each split that has some, and the lines of its list files that can name none.

    A split is a folder, a list file, or several of them. Raises DatasetError if one is not there or has
    no picture; a test split may be missing, since exports name one whether or not they have it.
    """
    found = Listed()
    for split in SPLITS:
        places = {text: description.place(text) for text in _texts(description, split)}
        missing = [text for text, place in places.items() if place is None]
        if missing and (split != "test" or len(missing) < len(places) or not _may_be_absent(missing)):
            whole = description.path.parent / description.base / missing[0]
            raise description.wrong(
                split,
                f"{one_line(missing[0], 80)} {why_absent(whole)}: correct it, or lay the folder there",
            )
        for place in places.values():
            if place is not None:
                _add(description, found, split, place, tree)
    return found


def _add(description: YoloDescription, found: Listed, split: str, place: Path, tree: FolderTree) -> None:
    """Add the pictures of a list file, or all in a folder and below it."""
    if is_file(place):
        if has_image_suffix(place):
            raise description.wrong(split, f"{place} is a picture: give its folder, or a list file")
        images, problems = images_of_list(place)
    elif place.is_dir():
        try:
            below = tree if place.is_relative_to(tree.root) else FolderTree.scan(place, _MOST_FOLDERS)
        except DatasetError as error:
            raise description.wrong(split, str(error)) from error
        if place in below.unread:
            raise description.wrong(
                split, f"{place} cannot be read ({below.unread[place]}): allow it to be read"
            )
        problems = [] if below is tree else unread_folders(below)
        images = [
            folder / name
            for folder, names in below.with_suffix(*IMAGE_SUFFIXES)
            if folder.is_relative_to(place)
            for name in names
        ]
    else:
        raise description.wrong(
            split, f"{place} is a pipe, a socket or a device: give a folder, or a list file"
        )
    if not images and not problems and split != "test":
        raise description.wrong(split, f"{place} holds no picture: lay them there, or leave this line out")
    if images or problems:
        found.images.setdefault(split, []).extend(images)
        found.problems.setdefault(split, []).extend(problems)


def _texts(description: YoloDescription, split: str) -> list[str]:
    """Return what is written for a split: one path, several, or nothing."""
    where = description.values.get(split)
    if where is None or is_null(where) or where == "":
        return []
    texts = where if isinstance(where, list) else [where]
    for text in texts:
        if not isinstance(text, str) or not text:
            what = kind_of(text) if text or not isinstance(text, str) else "empty"
            raise description.wrong(split, f"{what} where a path belongs: write a folder, or a list of them")
    return [str(text) for text in texts]


def images_of_list(place: Path) -> tuple[list[Path], list[Problem]]:
    """Return the pictures that a list file names, and a problem for each line that can name none; of lines
    that are the same, the first counts."""
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
    """Return the picture that a line of a list names, or why it can name none: relative to the list; or the
    end of the path beside it, where the line begins with folders of another machine (CVAT's
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
    found = next((Path(os.path.normpath(image)) for image in same if is_file(image)), None)
    found = None if joined(whole) else found
    if found is not None:
        return found
    why = why_absent(path)
    return why if why.startswith("cannot") or not path.name else path


def _may_be_absent(texts: list[str]) -> bool:
    """Return whether paths could name something, if it were there."""
    return all(len(os.fsencode(text)) <= LONGEST and "\0" not in text for text in texts)
