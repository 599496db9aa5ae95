"""What the names of splits mean: every data set spells train, validation and test its own way."""

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import PurePath


class Role(StrEnum):
    """What a split is for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


_ROLES = {
    "train": Role.TRAIN,
    "training": Role.TRAIN,
    "trainval": Role.TRAIN,
    "val": Role.VAL,
    "valid": Role.VAL,
    "validation": Role.VAL,
    "dev": Role.VAL,
    "test": Role.TEST,
    "testing": Role.TEST,
}
# Words that names of splits' folders and files carry besides: train_images, instances_val2017, test-labels.
_BESIDES = re.compile("images?|imgs?|labels?|annotations?|instances|set|data|coco")


def role_of(name: str) -> Role | None:
    """Return the role of a split by its name (``train2017``, ``valid``, ``test_images``), None if it says
    none."""
    words = [word for word in re.findall("[a-z]+", name.lower()) if not _BESIDES.fullmatch(word)]
    return _ROLES.get(words[0]) if len(words) == 1 else None


def split_of(path: PurePath) -> str | None:
    """Return the last folder in a path that is named after a split."""
    return next((part for part in reversed(path.parts) if role_of(part) is not None), None)


def in_order(splits: Iterable[str]) -> tuple[str, ...]:
    """Return splits sorted: train, val, test, then those of no known role; each by name."""
    order = list(Role)

    def key(name: str) -> tuple[int, str]:
        role = role_of(name)
        return (order.index(role) if role is not None else len(order), name)

    return tuple(sorted(set(splits), key=key))
