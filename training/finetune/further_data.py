"""Further data sets that join a training: their pictures, how often they come, how they are sampled."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from detector.datasets.formats.values import number
from detector.datasets.open import Format, open_data
from detector.datasets.pixels import without_unreadable
from detector.datasets.problems import OnProblem
from detector.datasets.split_names import Role, role_of
from detector.errors import ParameterError
from training.rcnn.mixing import Ingredient
from training.rcnn.sampling import SamplingSettings

_COUNTS = ("positives", "background")
_NUMBERS = ("weight", *_COUNTS)
_WORDS = ("split", "format")


@dataclass(frozen=True)
class FurtherData:
    """A data set that joins, in words: ``name`` is that of its folder."""

    name: str
    ingredient: Ingredient


def further_data(text: str, sampling: SamplingSettings, on_problem: OnProblem) -> FurtherData:
    """What ``FOLDER`` or ``FOLDER:key=value,key=value`` means.

    ``split`` is a split or a list file [the training split, else all]; ``format`` the layout [found by
    looking]; ``weight`` how many times as often as by its size a picture is drawn [1]; ``positives`` and
    ``background`` how many regions of a picture are kept [those of ``sampling``].

    Raises ParameterError for text that makes no sense, DatasetError for data that cannot be read.
    """
    path, settings = _parsed(text)
    try:
        layout = _layout(settings["format"]) if "format" in settings else None
        weight = _weight(settings["weight"]) if "weight" in settings else 1.0
        counts = {name: _count(name, settings[name]) for name in _COUNTS if name in settings}
    except ValueError as error:
        raise ParameterError(f"--also {text!r}: {error}") from error
    kept = replace(sampling, **counts)
    folder = open_data(path, layout)
    split = settings.get("split")
    if split is None:
        split = next((name for name in folder.splits if role_of(name) is Role.TRAIN), None)
    dataset = without_unreadable(folder.read(split, on_problem=on_problem), on_problem)
    return FurtherData(path.resolve().name, Ingredient(dataset, weight, kept))


def further_folder(text: str) -> Path:
    """The folder that such a text names. Raises ParameterError as :func:`further_data` does."""
    return _parsed(text)[0]


def _layout(text: str) -> Format:
    if text not in tuple(Format):
        raise ValueError(f"format must be one of {', '.join(Format)}, got {text[:40]!r}")
    return Format(text)


def _weight(text: str) -> float:
    weight = number(text)
    if weight is None or weight <= 0:
        raise ValueError(f"weight must be a number over 0, got {text[:40]!r}")
    return weight


def _count(name: str, text: str) -> int:
    if not (text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise ValueError(f"{name} must be a whole number from 1, got {text[:40]!r}")
    return int(text)


def _parsed(text: str) -> tuple[Path, dict[str, str]]:
    """The folder, and its settings by key."""
    if text and os.path.isdir(text):  # noqa: PTH112 (False for a name that no file can have)
        return Path(text), {}
    path, _, rest = text.partition(":")
    settings = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in (*_NUMBERS, *_WORDS):
            raise ParameterError(
                f"--also {text!r}: {part!r} is none of {', '.join((*_WORDS, *_NUMBERS))}, each as key=value"
            )
        settings[key] = value
    if not path:
        raise ParameterError(f"--also {text!r} names no folder: FOLDER, or FOLDER:key=value,key=value")
    return Path(path), settings
