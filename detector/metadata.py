"""What a checkpoint says of itself: network, classes, preprocessing, training, measures, licence."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from detector.classes import ClassList
from detector.errors import ParameterError
from detector.proposals.multibox_head import MultiBoxSpec
from detector.regions import Preprocessing
from detector.scoring import Scoring
from detector.text import printable
from detector.values import check_fields, check_list, check_text, shown


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself.

    ``classification`` are the classes of the classifier's first rows (None if it was not trained on whole
    pictures), ``detection`` those of the region classifier (None for a mere classifier). ``multibox`` says
    how the MultiBox head is made, if there is one. ``scoring`` says how a detector makes detections of what
    the network says, as was found best for these weights. ``metrics`` maps a measure's name to its value,
    ``training`` says how the weights came about.
    """

    name: str
    architecture: str
    preprocessing: Preprocessing
    classification: ClassList | None
    detection: ClassList | None = None
    multibox: MultiBoxSpec | None = None
    scoring: Scoring = field(default_factory=Scoring)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    source: str = "unknown"

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads. A measure that came to no finite number is null: JSON has no NaN."""
        multibox = self.multibox.as_json() if self.multibox is not None else None
        told = {name: _finite(dict(getattr(self, name))) for name in ("training", "metrics")}
        return {**asdict(self), "multibox": multibox, **told}

    def __post_init__(self) -> None:
        """Raises ParameterError for what no file may say of itself."""
        for name in ("name", "architecture", "licence", "source"):
            check_text(name, getattr(self, name))
        for name in ("training", "metrics"):
            if not isinstance(getattr(self, name), Mapping):
                found = shown(getattr(self, name))
                raise ParameterError(f"{name} must be an object of names and values, got {found}")
        if self.detection is not None and len(self.detection):
            # Of 1000 synsets two pairs share a name: in the classes of whole pictures it may stand twice.
            name, times = Counter(self.detection.names).most_common(1)[0]
            if times > 1:
                raise ParameterError(f"two detection classes have the name {shown(name)}")

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Metadata":
        """Raises ParameterError, naming the entry, where one is missing, unknown or of another form.

        Control characters in texts come back as their escapes; in ids and names of classes they are errors.
        Measures that came to no finite number, as earlier versions wrote them, are None.
        """
        known = [field.name for field in fields(cls)]
        check_fields("it", entry, known, (name for name in known if name not in _LATER))
        multibox = entry.get("multibox")
        texts = {name: _finite(_printable(entry[name])) for name in _TEXTS}
        with _inside("preprocessing"):
            preprocessing = _preprocessing(entry["preprocessing"])
        with _inside("multibox"):
            spec = MultiBoxSpec.from_json(multibox) if multibox is not None else None
        with _inside("scoring"):
            scoring = Scoring.from_json(entry.get("scoring", {}))
        return cls(
            preprocessing=preprocessing,
            classification=_class_list("classification", entry["classification"]),
            detection=_class_list("detection", entry["detection"]),
            multibox=spec,
            scoring=scoring,
            **texts,
        )


_TEXTS = ("name", "architecture", "licence", "source", "training", "metrics")

_LATER = ("multibox", "scoring")
"""What files from before there was any of it do not speak of."""


@contextmanager
def _inside(what: str) -> Iterator[None]:
    """Name the part of the metadata in the errors of the block."""
    try:
        yield
    except ParameterError as error:
        raise ParameterError(f"{what}: {error}") from error


def _preprocessing(entry: object) -> Preprocessing:
    names = [field.name for field in fields(Preprocessing)]
    found = check_fields("it", entry, names, names)
    mean, std = (tuple(check_list(name, found[name], 3)) for name in ("mean", "std"))
    return Preprocessing(mean, std, found["size"], found["context"], found["short_side"])


def _class_list(what: str, entry: object) -> ClassList | None:
    if entry is None:
        return None
    with _inside(what):
        found = check_fields("it", entry, ("ids", "names"), ("ids", "names"))
        ids, names = (check_list(part, found[part]) for part in ("ids", "names"))
        if not ids:
            raise ParameterError("ids must be a list with at least one entry, got []")
        return ClassList(tuple(ids), tuple(names))


def _printable(value: Any) -> Any:
    """A JSON value, its texts printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(key): _printable(one) for key, one in value.items()}
    return value


def _finite(value: Any) -> Any:
    """A value, null in the place of numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return value
