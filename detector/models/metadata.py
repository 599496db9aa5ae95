"""The metadata of a checkpoint: network, classes, preprocessing, training, metrics, licence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from detector.errors import CheckpointError, ParameterError
from detector.inference.preprocessing import Preprocessing
from detector.inference.scoring import Scoring
from detector.inference.shared_maps import SharedMaps
from detector.inference.thresholds import Thresholds
from detector.io.terminal_text import one_line, printable
from detector.models.multibox_spec import MultiBoxSpec
from detector.structures.classes import ClassList

MAX_ACTIVATION = 1e9
"""A number beyond that is none that a sound network gives."""


@dataclass(frozen=True)
class Metadata:
    """The metadata of a checkpoint.

    ``classification`` are the classes of the classifier's first rows (None if it was not trained on whole
    images), ``detection`` those of the region classifier (None for a classifier only). ``multibox`` specifies
    the MultiBox head, if there is one. ``shared_maps`` gives how regions are cut out of maps of the whole
    image, if the heads were trained for that; None is for warped crops. ``scoring`` gives how the network's
    outputs become detections, with the settings that were best for these weights. ``activation_ranges`` are
    the least and the greatest output of each layer on real images, if they were measured: what a network in
    8 bits needs (:mod:`detector.graphs.quantization`). ``thresholds`` are the scores of each class from which
    on a wanted share of detections is right, if they were measured. ``metrics`` maps a metric's name to its
    value, ``training`` records how the weights were trained.
    """

    name: str
    architecture: str
    preprocessing: Preprocessing
    classification: ClassList | None
    detection: ClassList | None = None
    multibox: MultiBoxSpec | None = None
    shared_maps: SharedMaps | None = None
    scoring: Scoring = field(default_factory=Scoring)
    activation_ranges: Mapping[str, tuple[float, float]] | None = None
    thresholds: Thresholds | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    source: str = "unknown"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that :meth:`from_json` reads."""
        multibox = self.multibox.as_json() if self.multibox is not None else None
        return {**asdict(self), "multibox": multibox}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Metadata":
        """Make metadata from a JSON object. Control characters in texts become escapes.

        Raises KeyError for an entry that is missing, ParameterError or ValueError for one of another form;
        the message begins with the entry's name.
        """
        prepare = _object(entry, "preprocessing")
        multibox = entry.get("multibox")  # earlier files lack this entry
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
            scoring=Scoring.from_json(entry.get("scoring", {})),  # earlier files lack it too
            activation_ranges=_ranges(entry),
            thresholds=_thresholds(entry),
            training=_mapping(entry, "training"),
            metrics=_mapping(entry, "metrics"),
            licence=_text(entry, "licence"),
            source=_text(entry, "source"),
        )


def _shared_maps(entry: Mapping[str, Any]) -> SharedMaps | None:
    if entry.get("shared_maps") is None:  # earlier files lack this entry
        return None
    settings = _object(entry, "shared_maps")
    known = {field.name for field in fields(SharedMaps)}
    if settings.keys() != known:
        raise ValueError(f"shared_maps, which must have the entries {', '.join(sorted(known))}")
    return SharedMaps(**{**settings, "scales": _tuple(settings["scales"])})


def _ranges(entry: Mapping[str, Any]) -> dict[str, tuple[float, float]] | None:
    if entry.get("activation_ranges") is None:  # earlier files lack this entry
        return None
    ranges = _object(entry, "activation_ranges")
    for pair in ranges.values():
        numbers = pair if isinstance(pair, list | tuple) else ()
        real = [isinstance(number, int | float) and not isinstance(number, bool) for number in numbers]
        if len(real) != 2 or not all(real) or not -MAX_ACTIVATION <= pair[0] < pair[1] <= MAX_ACTIVATION:
            raise ValueError("activation_ranges, which must be a lower and a higher number for each layer")
    return {printable(name): (float(low), float(high)) for name, (low, high) in ranges.items()}


def _thresholds(entry: Mapping[str, Any]) -> Thresholds | None:
    if entry.get("thresholds") is None:  # earlier files lack this entry
        return None
    classes = _class_list(entry, "detection")
    return Thresholds.from_json(_object(entry, "thresholds"), len(classes) if classes is not None else 0)


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
    """Return a JSON list as a tuple; anything else unchanged, for :class:`Preprocessing` to refuse."""
    return tuple(value) if isinstance(value, list) else value


def _text(entry: Mapping[str, Any], name: str) -> str:
    if not isinstance(entry[name], str):
        raise ValueError(f"{name}, which must be text")
    return printable(entry[name])


def _mapping(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _printable(_object(entry, name))


def _printable(value: Any) -> Any:
    """Return a JSON value with the control characters in its texts as escapes."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): _printable(item) for key, item in value.items()}
    return value


def metadata_from(header: Mapping[str, Any], path: Path) -> Metadata:
    """Make metadata of what a file states. Raises CheckpointError that names the file and what is wrong."""
    try:
        return Metadata.from_json(header)
    except KeyError as error:
        raise CheckpointError(f"{path}: its metadata lacks {one_line(error)}") from error
    except (ParameterError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata garbles {one_line(error)}") from error
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata garbles an entry: it is of another kind") from error
