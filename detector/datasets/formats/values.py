"""Single values and keys of annotation files, as the tools of the field write them."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

_LARGEST = 1e9
"""A coordinate or size beyond it is a mistake, and no longer exact as float32 by far."""


_YES = frozenset({"1", "true", "yes", "y", "t", "on"})


_NO = frozenset({"", "0", "false", "no", "n", "f", "off", "none", "null", "unspecified"})


def number(value: Any) -> float | None:
    """Read a finite number, also written as text; None for everything else (booleans are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    if isinstance(value, str) and "_" in value:  # Python's own spelling: 1_000
        return None
    return found if math.isfinite(found) and abs(found) <= _LARGEST else None


def side(value: Any) -> tuple[int, bool]:
    """Read a picture's width or height: pixels, 0 where it is not stated, and whether it was understood.

    None, nothing, and 0 state no size; so does what is no whole positive number, but that is a mistake.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return 0, True
    found = number(value)
    if found is None or found < 0 or found != int(found):
        return 0, False
    return int(found), True


def flag(value: Any) -> bool | None:
    """Read a mark such as ``iscrowd``: a boolean, 0, 1 or text; None where it is none of these."""
    if value is None:
        return False
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _YES or text in _NO:
            return text in _YES
    elif isinstance(value, bool):
        return value
    found = number(value)
    return found == 1 if found in (0, 1) else None


def key(value: Any) -> str | None:
    """Read the id of a picture or category as text, so that 1, 1.0 and "1" are one; None if it is no id."""
    if isinstance(value, str):
        text = value.strip()
        whole, point, rest = text.partition(".")
        if point and whole.isdecimal() and str(int(whole)) == whole and not rest.strip("0"):
            return whole
        return text or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        if value == int(value):
            return str(int(value))
    try:
        return str(value)
    except ValueError:  # thousands of digits
        return None


def shown(value: Any, length: int = 60) -> str:
    """Return a value in a message: its text, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."


def normalise_keys(entry: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Return an object with its keys as the format spells them; what is no object has none.

    A key that is there as it should be is left alone; for one that is not, the one that differs in case,
    ``_``, ``-`` and spaces only stands in. Where several do and differ in value, none is taken: which was
    meant is not known.
    """
    if not isinstance(entry, Mapping):
        return {}
    absent = [name for name in names if name not in entry]
    if not absent:
        return entry
    others = [key for key in entry if key not in names]
    added = {}
    for name in absent if others else ():
        found = [entry[key] for key in others if _folded(key) == _folded(name)]
        if found and all(value == found[0] for value in found):
            added[name] = found[0]
    return {**entry, **added} if added else entry


@lru_cache(maxsize=4096)
def _folded(key: str) -> str:
    return "".join(letter for letter in key.lower() if letter not in "_- ")
