"""Values of settings and metadata, checked: errors say where, what it must be, and what it is.

They come from files of JSON as from callers, and are told as JSON has them: null, true, NaN.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from detector.errors import ParameterError
from detector.text import one_line, printable

LONGEST = 10_000
"""Most characters of a text that is told to people: far beyond any, and no log is filled."""


def shown(value: object) -> str:
    """A value as JSON, on one short line."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        text = f"something that JSON has no form for ({type(value).__name__})"
    return one_line(text, 80)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raises ParameterError unless ``value`` is a number in ``low..high``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # type: ignore[operator]
        raise ParameterError(f"{name} must lie in {low}..{high}, got {shown(value)}")


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raises ParameterError unless ``value`` is a whole number in ``low..high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ParameterError(f"{name} must be a whole number in {low}..{high}, got {shown(value)}")


def check_flag(name: str, value: object) -> None:
    """Raises ParameterError unless ``value`` is true or false."""
    if not isinstance(value, bool):
        raise ParameterError(f"{name} must be true or false, got {shown(value)}")


def check_text(name: str, value: object, most: int = LONGEST) -> None:
    """Raises ParameterError unless ``value`` is text of 1 to ``most`` characters that shows something."""
    if not isinstance(value, str):
        raise ParameterError(f"{name} must be text, got {shown(value)}")
    if not value.strip():
        raise ParameterError(f"{name} must be text that is not empty, got {shown(value)}")
    if len(value) > most:
        raise ParameterError(f"{name} has {len(value):,} characters, and may have {most:,}: {shown(value)}")


def check_printable(name: str, value: str) -> None:
    """Raises ParameterError for text that moves a cursor, turns what follows round or is half a character."""
    if printable(value) != value:
        raise ParameterError(f"{name} holds control characters: {shown(value)}")


def check_fields(what: str, entry: object, known: Iterable[str], needed: Iterable[str]) -> Mapping[str, Any]:
    """``entry`` as an object that has all ``needed`` fields and none but ``known`` ones.

    Raises ParameterError, which says so where a later version seems to have written more.
    """
    if not isinstance(entry, Mapping):
        raise ParameterError(f"{what} must be an object of names and values, got {shown(entry)}")
    for name in needed:
        if name not in entry:
            raise ParameterError(f"{what} lacks {name!r}")
    known = sorted(known)
    unknown = sorted(str(name) for name in entry if name not in known)
    if unknown:
        raise ParameterError(
            f"{what} has {one_line(', '.join(map(repr, unknown)), 80)}, perhaps of a later version; "
            f"this version knows {', '.join(known)}"
        )
    return entry


def check_list(name: str, value: object, length: int | None = None) -> list[Any]:
    """``value`` as a list, of ``length`` entries if that is given. Raises ParameterError."""
    wrong = length is not None and isinstance(value, list | tuple) and len(value) != length
    if not isinstance(value, list | tuple) or wrong:
        many = "a list" if length is None else f"a list of {length}"
        raise ParameterError(f"{name} must be {many}, got {shown(value)}")
    return list(value)
