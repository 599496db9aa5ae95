"""Handlers: from a task and the bytes of an image to a part of a reply."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import orjson

from api.protocol.errors import ApiError
from api.protocol.messages import ClassifyTask, DetectTask, Stage, Task
from api.worker.loaded_model import LoadedModel
from api.worker.rendering import JPEG, JSON, as_coco, as_image, as_json
from detector.errors import ParameterError
from detector.inference.classifier import best
from detector.inference.detector import Detector
from detector.inference.executor import Executor, run_directly
from detector.inference.region_crops import ImageView
from detector.inference.tiles import tiles_of
from detector.io.decoding import RGB, Limits, read
from detector.io.visualization import JPEG_SIDE
from detector.options import AUTO, Profile
from detector.structures.class_choice import labels_of
from detector.structures.classes import ClassList
from detector.structures.detections import Detections


class Stopwatch:
    """Seconds that a task spends in each stage of its way.

    It runs between :meth:`go_on` and :meth:`pause`; handlers call :meth:`enter` where a stage begins. The
    stage ``queue`` is all waiting. Beside that, :attr:`stages` holds when each stage was, its waiting
    included.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        """``check`` raises where the task is to be given up; it is called between pieces of its work."""
        self.check = check
        self.seconds = {"queue": 0.0}
        self.stages: list[Stage] = []
        self._stage = "decode"
        self._since: float | None = None
        self._begun: float | None = None
        self._waited = 0.0  # within this stage

    def add(self, seconds: float, stage: str | None = None) -> None:
        """Add time spent elsewhere, to the present stage if to no other."""
        stage = stage or self._stage
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if stage == "queue":
            self._waited += seconds

    def begin(self, asked: float) -> None:
        """Run from now on; the first wait is over, which began at a time ``asked``."""
        self.add(monotonic() - asked, "queue")
        self.stages.append(Stage("queue", asked, monotonic(), self._waited))
        self._waited = 0.0
        self.go_on()

    def go_on(self) -> None:
        """Run from now on."""
        self._since = monotonic()
        if self._begun is None:
            self._begun = self._since

    def enter(self, stage: str) -> None:
        """Enter another stage. Raises what ``check`` raises."""
        self.check()
        self.finish()
        self._stage = stage
        self.go_on()

    def finish(self) -> None:
        """End the present stage."""
        self.pause()
        if self._begun is not None:
            self.stages.append(Stage(self._stage, self._begun, monotonic(), self._waited))
        self._begun, self._waited = None, 0.0

    def pause(self) -> None:
        """Stop, if it runs."""
        if self._since is not None:
            self.add(monotonic() - self._since)
            self._since = None

    @property
    def timing_ms(self) -> dict[str, float]:
        """Milliseconds with one decimal, as replies state them."""
        return {stage: round(seconds * 1000, 1) for stage, seconds in self.seconds.items()}


@dataclass(frozen=True)
class Result:
    """A part of a reply: ``about`` the image and the model, and a body of what was found in the image."""

    about: dict[str, Any]
    media_type: str
    body: bytes


def handle_task(
    task: Task,
    model: LoadedModel,
    data: bytes,
    limits: Limits,
    stopwatch: Stopwatch,
    executor: Executor = run_directly,
) -> Result:
    """Do a task for the image in ``data``; ``executor`` runs the networks.

    Raises ApiError for what the model cannot do or does not know, ImageError for a bad image, what the
    executor raises, and what the stopwatch's ``check`` raises, which is called between all stages and within
    drawing and encoding.
    """
    if isinstance(task, DetectTask):
        return _detect(task, model, data, limits, stopwatch, executor)
    return _classify(task, model, data, limits, stopwatch, executor)


def _detect(
    task: DetectTask,
    model: LoadedModel,
    data: bytes,
    limits: Limits,
    stopwatch: Stopwatch,
    executor: Executor,
) -> Result:
    detector = model.detector
    if task.profile not in (None, Profile.SEARCH) and not detector.has_multibox:
        raise ApiError(
            501,
            "not_supported",
            "The model's weights have no MultiBox head. Leave profile out, or ask for profile=search.",
        )
    labels = _labels_of(task.classes, detector.classes) if task.classes is not None else None
    if task.score_threshold == AUTO and detector.thresholds is None:
        raise ApiError(
            422,
            "invalid_parameter",
            "score_threshold: no thresholds were measured for the model's weights, or they are an ensemble. "
            "Give a number in 0..1, or measure thresholds with `detector evaluate --thresholds-to`; "
            "GET /models tells which models have some (precision_wanted).",
        )
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

    stopwatch.enter("trunk")
    image = decoded.pixels if task.format.startswith("image/") else None
    pixels = decoded.pixels if task.tile is not None else None

    def find(view: ImageView) -> Detections:
        detector.prepare(view, task.profile, executor=executor)
        stopwatch.enter("proposals")
        proposals = detector.propose(view, task.profile, executor=executor)
        stopwatch.enter("regions")
        regions = detector.score(view, proposals, task.profile, executor=executor)
        stopwatch.check()
        found = detector.select(
            regions,
            score_threshold=task.score_threshold,
            max_detections=task.max_detections,
            classes=labels,
        )
        if not task.explain:
            return found
        return detector.explain(view, regions, found, task.explain, task.profile, executor=executor)

    view = detector.view(decoded.pixels, task.profile)
    del decoded  # a large photograph would take its memory until the last region
    detections = find(view) if pixels is None else _in_tiles(detector, pixels, task, find, stopwatch)
    stopwatch.check()
    if image is not None:
        drawn = as_image(image, detections, detector.classes, task.format, stopwatch.check)
        return Result(about, task.format, drawn)
    if task.format == "coco":
        return Result(about, JSON, as_coco(detections, detector.classes, task.name, width, height))
    return Result(about, JSON, as_json(detections, detector.classes))


def _in_tiles(
    detector: Detector,
    pixels: RGB,
    task: DetectTask,
    find: Callable[[ImageView], Detections],
    stopwatch: Stopwatch,
) -> Detections:
    """Look at an image and at its tiles. Raises ApiError 422 for too many of them."""
    assert task.tile is not None

    def find_in(part: RGB) -> Detections:
        stopwatch.enter("trunk")
        return find(detector.view(part, task.profile))

    height, width = pixels.shape[:2]
    try:
        tiles_of(width, height, task.tile)
    except ParameterError as error:
        message = str(error)
        raise ApiError(422, "invalid_parameter", f"{message[0].upper()}{message[1:]}.") from error
    return detector.find_in_tiles(pixels, task.tile, find_in, task.max_detections)


def _classify(
    task: ClassifyTask,
    model: LoadedModel,
    data: bytes,
    limits: Limits,
    stopwatch: Stopwatch,
    executor: Executor,
) -> Result:
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
    stopwatch.enter("classify")
    view = classifier.view(decoded.pixels)
    del decoded
    probabilities = classifier.probabilities(view, crops=task.crops, executor=executor)
    likeliest = best(probabilities, min(task.top, len(classifier.classes)))
    return Result(about, JSON, orjson.dumps(likeliest.as_dicts(classifier.classes)))


def _labels_of(text: str, classes: ClassList) -> tuple[int, ...]:
    """Return the labels of the classes that a request names. Raises ApiError 422 for what is none of them."""
    try:
        return labels_of(text, classes)
    except ParameterError as error:
        raise ApiError(
            422, "invalid_parameter", f"classes: {error}. GET /models lists them; see /docs."
        ) from error
