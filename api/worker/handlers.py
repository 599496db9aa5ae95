"""A task in the worker: from the bytes of a picture to a part of a reply, as steps that yield looks."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import orjson

from api.frontend.errors import ApiError
from api.protocol.tasks import ClassifyTask, DetectTask, Task
from api.worker.class_filter import labels_of
from api.worker.loaded_model import LoadedModel
from api.worker.rendering import JPEG, JSON, as_coco, as_image, as_json
from detector.inference.classifier import best
from detector.inference.looks import Steps
from detector.io.decoding import Limits, read
from detector.io.visualization import JPEG_SIDE
from detector.options import Profile


class Clock:
    """Seconds that a task spent in each stage of its way, as whoever takes its steps tells it.

    It runs between :meth:`go_on` and :meth:`pause`; steps call :meth:`enter` where a stage begins. The stage
    ``queue`` is all waiting.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        """``check`` raises where the task is to be given up; steps call it between pieces of their work."""
        self.check = check
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
        """From now on it is another stage. Raises what ``check`` raises."""
        self.check()
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


def steps_of(task: Task, model: LoadedModel, data: bytes, limits: Limits, clock: Clock) -> Steps[Result]:
    """The steps of a task for the picture in ``data``.

    They raise ApiError for what the model cannot do or does not know, ImageError for a bad picture, and what
    the clock's ``check`` raises, which they call between all stages and within drawing and encoding.
    """
    take = _detect if isinstance(task, DetectTask) else _classify
    return take(task, model, data, limits, clock)  # type: ignore[arg-type]


def _detect(task: DetectTask, model: LoadedModel, data: bytes, limits: Limits, clock: Clock) -> Steps[Result]:
    detector = model.detector
    if task.profile not in (None, Profile.SEARCH) and not detector.has_multibox:
        raise ApiError(
            501,
            "not_supported",
            "The model's weights have no MultiBox head. Leave profile out, or ask for profile=search.",
        )
    labels = labels_of(task.classes, detector.classes) if task.classes is not None else None
    decoded = read(data, limits)
    height, width = decoded.pixels.shape[:2]
    about = {"width": width, "height": height, "frames": decoded.frames, "model": detector.name}
    if task.format == JPEG and max(width, height) > JPEG_SIDE:
        raise ApiError(
            422,
            "invalid_parameter",
            f"A JPEG picture has at most {JPEG_SIDE:,} pixels a side, and this one has more. "
            "Ask for the drawn picture as image/png.",
        )

    clock.enter("proposals")
    image = decoded.pixels if task.format.startswith("image/") else None
    view = detector.view(decoded.pixels)
    del decoded  # a large photograph would take its memory until the last region
    proposals = yield from detector.proposing(view, task.profile)
    clock.enter("classify")
    regions = yield from detector.scoring_regions(view, proposals)
    clock.check()
    found = detector.select(
        regions,
        score_threshold=task.score_threshold,
        max_detections=task.max_detections,
        classes=labels,
    )
    clock.check()
    if image is not None:
        drawn = as_image(image, found, detector.classes, task.format, clock.check)
        return Result(about, task.format, drawn)
    if task.format == "coco":
        return Result(about, JSON, as_coco(found, detector.classes, task.name, width, height))
    return Result(about, JSON, as_json(found, detector.classes))


def _classify(
    task: ClassifyTask, model: LoadedModel, data: bytes, limits: Limits, clock: Clock
) -> Steps[Result]:
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
    looking = classifier.looking(decoded.pixels, crops=task.crops)
    del decoded
    found = best((yield from looking), min(task.top, len(classifier.classes)))
    return Result(about, JSON, orjson.dumps(found.as_dicts(classifier.classes)))
