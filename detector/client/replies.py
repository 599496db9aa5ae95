"""What the service answers, as dataclasses.

Names and fields are those of the service's OpenAPI document, which a test compares them with. A field that a
later service adds is passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from detector.options import Profile


@dataclass(frozen=True)
class Box:
    """Pixels of the upright image, origin top left; ``xmax`` and ``ymax`` lie just outside the box.

    ``x1, y1, x2, y2 = box`` takes it apart.
    """

    xmin: float
    ymin: float
    xmax: float
    ymax: float

    def __iter__(self) -> Iterator[float]:
        yield from (self.xmin, self.ymin, self.xmax, self.ymax)


@dataclass(frozen=True)
class LikelyClass:
    """A class and how likely it is, in 0..1. It has a ``wnid`` (of WordNet) or a ``class_id``, not both."""

    label: str
    score: float
    wnid: str | None = None
    class_id: str | None = None


@dataclass(frozen=True)
class ScoreFactor:
    """One factor of a score: its ``contribution`` is its ``value``, in 0..1, to its ``power``."""

    name: str
    value: float
    power: float
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Why an object has its score: the product of the ``factors``' contributions is the score.

    ``activation`` is a class activation map, rows from the top: what each place of the ``region`` adds to the
    class's logit. The region's corners x1, y1, x2, y2, in pixels, may lie beyond the image.
    """

    factors: tuple[ScoreFactor, ...]
    region: tuple[float, float, float, float]
    activation: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class DetectedObject:
    """An object: its class as of :class:`LikelyClass`, its score in 0..1, its box, and its explanation if one
    was asked for."""

    label: str
    score: float
    box: Box
    wnid: str | None = None
    class_id: str | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True)
class DetectTiming:
    """Milliseconds that each step took; ``total`` is the whole request, its body included."""

    queue: float
    decode: float
    trunk: float
    proposals: float
    regions: float
    total: float


@dataclass(frozen=True)
class ClassifyTiming:
    """Milliseconds that each step took; ``total`` is the whole request, its body included."""

    queue: float
    decode: float
    classify: float
    total: float


@dataclass(frozen=True)
class DetectReply:
    """The objects in one image, best first: ``len`` counts them, iterating yields them.

    ``image`` is the name of the file, None for what has none; ``width`` and ``height`` are of the upright
    image; ``frames`` is 1 for a still.
    """

    image: str | None
    width: int
    height: int
    frames: int
    model: str
    detections: tuple[DetectedObject, ...]
    timing_ms: DetectTiming
    kind: Literal["detections"]

    def __len__(self) -> int:
        return len(self.detections)

    def __iter__(self) -> Iterator[DetectedObject]:
        return iter(self.detections)


@dataclass(frozen=True)
class ClassifyReply:
    """The classes of one image, likeliest first: ``len`` counts them, iterating yields them.

    The other fields are as in :class:`DetectReply`.
    """

    image: str | None
    width: int
    height: int
    frames: int
    model: str
    classes: tuple[LikelyClass, ...]
    timing_ms: ClassifyTiming
    kind: Literal["classes"]

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[LikelyClass]:
        return iter(self.classes)


@dataclass(frozen=True)
class ErrorDetail:
    """What is wrong: ``code`` is stable and meant for programs, ``message`` for people."""

    code: str
    message: str


@dataclass(frozen=True)
class RefusedImage:
    """One of several images that could not be answered, in its place; the others are."""

    image: str | None
    error: ErrorDetail
    kind: Literal["error"]


@dataclass(frozen=True)
class ManyReply:
    """The answers to several images, in their order."""

    results: tuple[Annotated[DetectReply | RefusedImage, Field(discriminator="kind")], ...]
    kind: Literal["results"]


@dataclass(frozen=True)
class ManyClassifyReply:
    """The answers to several images, in their order."""

    results: tuple[Annotated[ClassifyReply | RefusedImage, Field(discriminator="kind")], ...]
    kind: Literal["results"]


@dataclass(frozen=True)
class ErrorReply:
    """An answer that is an error."""

    error: ErrorDetail


@dataclass(frozen=True)
class WeightsFile:
    """The file that was loaded."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Member:
    """One network, as its checkpoint describes itself."""

    name: str
    architecture: str
    licence: str
    source: str
    metrics: dict[str, Any]
    training: dict[str, Any]
    file: WeightsFile


@dataclass(frozen=True)
class ProfileOffered:
    """A profile that a model can serve: most regions of an image (None: all), and its cost in regions,
    of which each region has ``region_cost``."""

    name: Profile
    max_regions: int | None
    cost: int
    region_cost: int = 1


@dataclass(frozen=True)
class ClassName:
    """A class: ``id`` as annotation files name it, ``name`` for people."""

    id: str
    name: str


@dataclass(frozen=True)
class ServedModel:
    """What is told of every model. ``tasks`` are ``detect``, ``classify`` or both."""

    name: str
    tasks: list[str]
    members: list[Member]
    engine: str
    precision: str
    profiles: list[ProfileOffered]
    default_profile: Profile | None
    scoring: dict[str, Any] | None
    loaded_at: str
    precision_wanted: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class ModelSummary(ServedModel):
    """A model that is loaded, its classes counted."""

    detection_class_count: int
    classification_class_count: int


@dataclass(frozen=True)
class ModelInfo(ServedModel):
    """A model that is loaded, with all its classes, label by label."""

    detection_classes: list[ClassName]
    classification_classes: list[ClassName]


@dataclass(frozen=True)
class ModelList:
    """All models that are loaded, the default one first."""

    models: list[ModelSummary]
