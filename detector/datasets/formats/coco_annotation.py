"""One annotation of COCO's JSON: its category and its box, or what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.datasets.formats.values import flag, key, normalise_keys, number, shown

XYXY = tuple[float, float, float, float]


_KEYS = ("id", "category_id", "bbox", "iscrowd", "segmentation")


# The sides of a box that is an object: x, y, width, height, or its corners.
_SIDES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))


_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))


@dataclass(frozen=True)
class CocoObject:
    """``category`` is its id as text; ``box`` x1, y1, x2, y2. ``wrong`` says what cannot be read, if anything
    cannot: it is then no object to learn from. ``odd`` says what was made up for. A ``crowd`` is a region of
    many objects."""

    category: str | None
    box: XYXY | None
    wrong: str = ""
    odd: str = ""
    crowd: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, Any], position: int) -> "CocoObject":
        """Read an annotation, the one at this position of its file."""
        entry = normalise_keys(entry, _KEYS)
        which = f"annotation {position}"
        if key(entry.get("id")) is not None:
            which += f" (id {key(entry['id'])})"
        crowd = flag(entry.get("iscrowd"))
        category, box, odd = key(entry.get("category_id")), _box(entry.get("bbox")), ""
        if box is None and entry.get("bbox") in (None, [], ""):
            box = _around(entry.get("segmentation"))
            odd = f"{which} has the bbox {shown(entry.get('bbox'))}: the box around its outline is taken"
        if crowd is None:
            return cls(None, None, f"{which} has the iscrowd {shown(entry.get('iscrowd'))}, neither 0 nor 1")
        if category is None and not crowd:
            return cls(None, box, f"{which} has the category_id {shown(entry.get('category_id'))}, no id")
        if crowd and box is not None:
            return cls(category, box, crowd=True)
        if box is None:
            wanted = "no four numbers, and no outline to take its place"
            return cls(category, None, f"{which} has the bbox {shown(entry.get('bbox'))}: {wanted}")
        return cls(category, box, odd=odd)


def _box(bbox: object) -> XYXY | None:
    if isinstance(bbox, Mapping):
        return _named_box(bbox)
    return _from_sides(_numbers(bbox if isinstance(bbox, list) else []))


def _named_box(bbox: Mapping[str, Any]) -> XYXY | None:
    """Return a box whose numbers have names. If the names of several forms are there, it may be any of
    them."""
    found: list[XYXY | None] = []
    for names in (*_SIDES, *_CORNERS):
        fields = normalise_keys(bbox, names)
        if all(name in fields for name in names):
            numbers = _numbers([fields[name] for name in names])
            found.append(numbers if names in _CORNERS else _from_sides(numbers))
    return found[0] if len(found) == 1 else None


def _from_sides(sides: XYXY | None) -> XYXY | None:
    return None if sides is None else (sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3])


def _numbers(values: Sequence[object]) -> XYXY | None:
    """Return four numbers, None if they are not four or one is none."""
    found = [value for value in map(number, values) if value is not None]
    return (found[0], found[1], found[2], found[3]) if len(found) == len(values) == 4 else None


def _around(segmentation: object) -> XYXY | None:
    """Return the box around polygons ``[[x, y, x, y, ...], ...]``, None if it is anything else."""
    polygons = segmentation if isinstance(segmentation, list) else []
    points: list[float] = []
    for polygon in polygons:
        found = [number(value) for value in polygon] if isinstance(polygon, list) else []
        sound = [value for value in found if value is not None]
        if len(found) < 6 or len(found) % 2 or len(sound) < len(found):
            return None
        points += sound
    if not points:
        return None
    corners = np.array(points).reshape(-1, 2)  # P x (x, y)
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)
