"""The parameters of ``POST /detect`` and ``POST /classify``, and what the client itself takes beside them.

A parameter that is left out, or None, is not sent: the service's default holds.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from detector.errors import ParameterError
from detector.options import Profile


class CallOptions(TypedDict, total=False):
    """What the client itself takes, for a call with images."""

    timeout: float | None
    """Seconds that the call may take, all tries included; left out, those of the client."""
    request_id: str | None
    """An id for the logs of both sides: letters, digits, dots, dashes, underscores. Left out, a new one."""
    encoding: Literal["png", "jpeg"] | None
    """How arrays and Pillow images travel: ``png`` (the default) keeps every pixel, ``jpeg`` is smaller.
    Files, bytes and file objects are sent as they are."""


class DetectParameters(CallOptions, total=False):
    """What ``detect`` takes beside images."""

    score_threshold: float | Literal["auto"] | None
    """Leave out detections with a lower score; ``auto`` goes by what was measured for each class."""
    max_detections: int | None
    """At most so many, the best."""
    profile: Profile | Literal["fast", "balanced", "thorough", "paper", "search"] | None
    """Which methods propose regions, and how many are looked at."""
    tile: int | None
    """Look at larger images also in overlapping squares of so many pixels a side."""
    explain: int | None
    """Explain the best so many objects: each has an ``explanation``. Not together with ``tile``."""
    classes: str | Iterable[str] | None
    """Only these classes, by name or id: a list, or a text with commas."""
    model: str | None
    """A model by name; left out, the default one."""


class ClassifyParameters(CallOptions, total=False):
    """What ``classify`` takes beside images."""

    top: int | None
    """How many classes, the likeliest."""
    crops: Literal[1, 10, 144] | None
    """So many views of the image are averaged."""
    model: str | None
    """A model by name; left out, the default one."""


def query_of(parameters: Mapping[str, Any], kind: type) -> dict[str, str]:
    """Return those of the parameters that are the service's, as the texts of a query.

    ``kind`` is the TypedDict of what may be given. Raises ParameterError for a name that it does not have.
    """
    known = kind.__annotations__.keys() - CallOptions.__annotations__.keys()
    unknown = parameters.keys() - kind.__annotations__.keys()
    if unknown:
        raise ParameterError(
            f"there is no parameter {', '.join(sorted(unknown))}: there is {', '.join(sorted(known))}"
        )
    given = {name: parameters[name] for name in sorted(known) if parameters.get(name) is not None}
    return {name: _text(value) for name, value in given.items()}


def _text(value: object) -> str:
    if not isinstance(value, str) and isinstance(value, Iterable):
        return ",".join(str(part) for part in value)
    return str(value)
