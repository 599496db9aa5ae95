"""Classes that a user names, to their labels."""

from collections.abc import Iterable
from difflib import get_close_matches

from detector.errors import ParameterError
from detector.structures.classes import ClassList

_SHOWN = 80  # letters of a name that a message repeats


def labels_of(names: str | Iterable[str], classes: ClassList) -> tuple[int, ...]:
    """Return the labels, ascending, of names or ids, whatever their case.

    One text holds them with commas in between; empty ones are passed over. A name that several classes share
    means all of them. Raises ParameterError for a class that is not in the list, naming what comes near, and
    for no class at all.
    """
    known: dict[str, set[int]] = {}
    for label, words in enumerate(zip(classes.names, classes.ids, strict=True)):
        for word in words:
            known.setdefault(_folded(word), set()).add(label)
    given = names.split(",") if isinstance(names, str) else names
    given = list(given) if isinstance(given, Iterable) else [given]
    strange = next((word for word in given if not isinstance(word, str)), None)
    if strange is not None:
        raise ParameterError(f"classes are named by texts, one each, got {type(strange).__name__}")
    wanted = [_folded(word) for word in given if word.strip()]
    if not wanted:
        raise ParameterError("name at least one class, or leave it out")
    for word in wanted:
        if word not in known:
            near = get_close_matches(word[:_SHOWN], known, n=3)
            hint = f": is {' or '.join(near)} meant?" if near else ", nor one like it"
            raise ParameterError(f"there is no class {word[:_SHOWN]!r}{hint}")
    return tuple(sorted(set().union(*(known[word] for word in wanted))))


def _folded(word: str) -> str:
    return " ".join(word.casefold().split())
