"""One picture's task, from its bytes to a part of a reply, as steps that yield looks at the device."""

from dataclasses import dataclass
from time import monotonic
from typing import Any

import orjson

from api.class_filter import labels_of
from api.errors import ApiError
from api.loaded_model import LoadedModel
from api.rendering import JSON, as_coco, as_json, as_picture
from detector.classification import best
from detector.images import Limits, read
from detector.looks import Steps
from detector.proposals import Profile


class Clock:
    """Seconds that a task spent in each stage of its way, as whoever takes its steps tells it.

    It runs between :meth:`go_on` and :meth:`pause`; steps call :meth:`enter` where a stage begins. The stage
    ``queue`` is all waiting.
    """

    def __init__(self) -> None:
        self.stage = "decode"
        self.seconds = {"queue": 0.0}
        self._since = 0.0

    def add(self, seconds: float, stage: str | None = None) -> None:
        """Time spent elsewhere, for the present stage if for no other."""
        stage = stage or self.stage
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def go_on(self) -> None:
        """A step begins."""
        self._since = monotonic()

    def enter(self, stage: str) -> None:
        """From now on it is another stage."""
        self.pause()
        self.stage = stage
        self.go_on()

    def pause(self) -> None:
        """A step ends."""
        self.add(monotonic() - self._since)

    @property
    def timing_ms(self) -> dict[str, float]:
        """Milliseconds with one decimal, as replies state them."""
        return {stage: round(seconds * 1000, 1) for stage, seconds in self.seconds.items()}


@dataclass(frozen=True)
class Result:
    """A part of a reply: what ``about`` says of the picture and the model, and what was found in it."""

    about: dict[str, Any]
    media_type: str
    body: bytes


@dataclass(frozen=True)
class DetectTask:
    """Find objects. ``format`` is json, coco, image/png or image/jpeg."""

    score_threshold: float
    max_detections: int
    profile: Profile | None
    classes: str | None
    format: str
    name: str | None

    def steps(self, model: LoadedModel, data: bytes, limits: Limits, clock: Clock) -> Steps[Result]:
        """Raises ApiError for a profile or class that the model lacks, ImageError for a bad picture."""
        detector = model.detector
        if self.profile not in (None, Profile.SEARCH) and not detector.has_multibox:
            raise ApiError(
                501,
                "not_supported",
                "The model's weights have no MultiBox head. Leave profile out, or ask for profile=search.",
            )
        labels = labels_of(self.classes, detector.classes) if self.classes is not None else None
        decoded = read(data, limits)
        height, width = decoded.pixels.shape[:2]
        about = {"width": width, "height": height, "frames": decoded.frames, "model": detector.name}

        clock.enter("proposals")
        picture = decoded.pixels if self.format.startswith("image/") else None
        view = detector.view(decoded.pixels)
        del decoded  # a large photograph would take its memory until the last region
        proposals = yield from detector.proposing(view, self.profile)
        clock.enter("classify")
        regions = yield from detector.scoring_regions(view, proposals)
        found = detector.select(
            regions,
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
            classes=labels,
        )
        if picture is not None:
            drawn = as_picture(picture, found, detector.classes, self.format)
            return Result(about, self.format, drawn)
        if self.format == "coco":
            return Result(about, JSON, as_coco(found, detector.classes, self.name, width, height))
        return Result(about, JSON, as_json(found, detector.classes))


@dataclass(frozen=True)
class ClassifyTask:
    """Say what a whole picture shows."""

    top: int
    crops: int

    def steps(self, model: LoadedModel, data: bytes, limits: Limits, clock: Clock) -> Steps[Result]:
        """Raises ApiError if the model detects only, ImageError for a bad picture."""
        classifier = model.classifier
        if classifier is None:
            raise ApiError(
                501,
                "not_supported",
                "The model's weights detect only. Choose a model that classifies, or POST /detect.",
            )
        decoded = read(data, limits)
        height, width = decoded.pixels.shape[:2]
        about = {"width": width, "height": height, "frames": decoded.frames, "model": classifier.name}
        clock.enter("classify")
        looking = classifier.looking(decoded.pixels, crops=self.crops)
        del decoded
        found = best((yield from looking), min(self.top, len(classifier.classes)))
        return Result(about, JSON, orjson.dumps(found.as_dicts(classifier.classes)))


Task = DetectTask | ClassifyTask
"""What can be asked for one picture."""

_KINDS: dict[str, type[DetectTask] | type[ClassifyTask]] = {"detect": DetectTask, "classify": ClassifyTask}


def task_header(task: Task) -> dict[str, Any]:
    """A task as it passes to a worker; :func:`task_of` reads it."""
    kind = next(kind for kind, of in _KINDS.items() if isinstance(task, of))
    return {"kind": kind, "parameters": vars(task)}


def task_of(header: dict[str, Any]) -> Task:
    """What :func:`task_header` wrote."""
    return _KINDS[header["kind"]](**header["parameters"])
