"""Keys of JSON objects as people and tools spell them: ``Image_ID``, ``imageId`` and ``image-id`` are one."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any


def spelled(entry: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """An object with its keys as the format spells them; what is no object has none.

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
        if found and all(one == found[0] for one in found):
            added[name] = found[0]
    return {**entry, **added} if added else entry


@lru_cache(maxsize=4096)
def _folded(key: str) -> str:
    return "".join(one for one in key.lower() if one not in "_- ")
