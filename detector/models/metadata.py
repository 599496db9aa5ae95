"""What a checkpoint says of itself: network, classes, preprocessing, training, measures, licence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from detector.inference.region_crops import Preprocessing
from detector.inference.scoring import Scoring
from detector.inference.shared_maps import SharedMaps
from detector.io.terminal_text import printable
from detector.models.multibox_head import MultiBoxSpec
from detector.structures.classes import ClassList


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself.

    ``classification`` are the classes of the classifier's first rows (None if it was not trained on whole
    images), ``detection`` those of the region classifier (None for a mere classifier). ``multibox`` says
    how the MultiBox head is made, if there is one. ``shared_maps`` says how regions are cut out of maps of
    the whole image, if that is what the heads were trained for; None is for warped crops. ``scoring`` says
    how a detector makes detections of the network's outputs, as was found best for these weights.
    ``metrics`` maps a measure's name to its value, ``training`` says how the weights came about.
    """

    name: str
    architecture: str
    preprocessing: Preprocessing
    classification: ClassList | None
    detection: ClassList | None = None
    multibox: MultiBoxSpec | None = None
    shared_maps: SharedMaps | None = None
    scoring: Scoring = field(default_factory=Scoring)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    source: str = "unknown"

    def as_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        multibox = self.multibox.as_json() if self.multibox is not None else None
        return {**asdict(self), "multibox": multibox}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Metadata":
        """Make metadata of JSON. Control characters in texts come back as their escapes.

        Raises KeyError for an entry that is missing, ParameterError or ValueError for one of another form;
        the message begins with the entry's name.
        """
        prepare = _object(entry, "preprocessing")
        multibox = entry.get("multibox")  # files from before there was one have none
        if multibox is not None:
            _object(entry, "multibox")
        return cls(
            name=_text(entry, "name"),
            architecture=_text(entry, "architecture"),
            preprocessing=Preprocessing(
                _tuple(prepare["mean"]),
                _tuple(prepare["std"]),
                prepare["size"],
                prepare["context"],
                prepare["short_side"],
            ),
            classification=_class_list(entry, "classification"),
            detection=_class_list(entry, "detection"),
            multibox=MultiBoxSpec.from_json(multibox) if multibox is not None else None,
            shared_maps=_shared_maps(entry),
            scoring=Scoring.from_json(entry.get("scoring", {})),  # nor this
            training=_mapping(entry, "training"),
            metrics=_mapping(entry, "metrics"),
            licence=_text(entry, "licence"),
            source=_text(entry, "source"),
        )


def _shared_maps(entry: Mapping[str, Any]) -> SharedMaps | None:
    if entry.get("shared_maps") is None:  # files from before there were any have none
        return None
    settings = _object(entry, "shared_maps")
    known = {field.name for field in fields(SharedMaps)}
    if settings.keys() != known:
        raise ValueError(f"shared_maps, which must have the entries {', '.join(sorted(known))}")
    return SharedMaps(**{**settings, "scales": _tuple(settings["scales"])})


def _class_list(entry: Mapping[str, Any], name: str) -> ClassList | None:
    if entry[name] is None:
        return None
    classes = _object(entry, name)
    ids, names = (_printable(classes[part]) for part in ("ids", "names"))
    for part in (ids, names):
        if not isinstance(part, list) or not part:
            raise ValueError(f"{name}, whose ids and names must be lists of text with at least one entry")
        if not all(isinstance(text, str) and text.strip() for text in part):
            raise ValueError(f"{name}, whose ids and names must be lists of text, none of it blank")
    return ClassList(tuple(ids), tuple(names))


def _object(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(entry[name], dict):
        raise ValueError(f"{name}, which must be an object of names and values")
    return entry[name]


def _tuple(value: Any) -> Any:
    """A JSON list as a tuple; anything else as it is, for :class:`Preprocessing` to refuse."""
    return tuple(value) if isinstance(value, list) else value


def _text(entry: Mapping[str, Any], name: str) -> str:
    if not isinstance(entry[name], str):
        raise ValueError(f"{name}, which must be text")
    return printable(entry[name])


def _mapping(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _printable(_object(entry, name))


def _printable(value: Any) -> Any:
    """A JSON value, its texts printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(key): _printable(one) for key, one in value.items()}
    return value
