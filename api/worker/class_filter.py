"""The query parameter ``classes``: from names or ids of classes to the labels of which detections are
kept."""

from difflib import get_close_matches

from api.protocol.errors import ApiError
from detector.structures.classes import ClassList


def labels_of(text: str, classes: ClassList) -> tuple[int, ...]:
    """Return the labels, ascending, of comma-separated names or ids, whatever their case.

    A name that several classes share means all of them. Raises ApiError 422 for a class that is not in the
    list, naming what comes near, and for no class at all.
    """
    known: dict[str, set[int]] = {}
    for label, words in enumerate(zip(classes.names, classes.ids, strict=True)):
        for word in words:
            known.setdefault(_folded(word), set()).add(label)
    wanted = [_folded(word) for word in text.split(",") if word.strip()]
    if not wanted:
        raise _invalid("name at least one class, or leave the parameter out")
    for word in wanted:
        if word not in known:
            near = get_close_matches(word[:80], known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "GET /models lists them."
            raise _invalid(f"there is no class {word[:80]!r}; {hint}")
    return tuple(sorted(set().union(*(known[word] for word in wanted))))


def _folded(word: str) -> str:
    return " ".join(word.casefold().split())


def _invalid(problem: str) -> ApiError:
    return ApiError(422, "invalid_parameter", f"classes: {problem.rstrip('.')}. See /docs.")
