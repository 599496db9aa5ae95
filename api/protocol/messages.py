"""The messages between the front and a worker, one type each.

    front to worker    WorkerSettings, once; then DeviceTask, Cancel, and Stop at the end
    worker to front    Ready or Failed, once; then Answer or Refusal for each task, and Report twice a second

They are dataclasses, which cost nothing to make; pydantic writes them as JSON and checks every field of what
is received (:mod:`api.protocol.wire`).
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from api.protocol.model_info import ModelInfo
from detector.options import Profile, ScoreThreshold


@dataclass
class _Message:
    """``body`` holds the bytes that follow the JSON as they are: an image, or a part of a reply."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    body: Annotated[bytes, Field(exclude=True)] = field(default=b"", kw_only=True, repr=False)


@dataclass
class WorkerSettings(_Message):
    """The part of the service's settings that one worker needs; it is sent before all else.

    ``models`` gives the paths of each model's weights, None for the shipped ones.
    """

    models: dict[str, list[str] | None]
    device: str
    engine: str
    precision: str
    profile: str | None
    max_proposals: int | None
    compile: bool
    threads: int
    prepare_threads: int
    batch: int | None
    max_bytes: int
    max_pixels: int
    log_format: str
    log_level: str
    op: Literal["settings"] = field(default="settings", kw_only=True)


@dataclass(frozen=True)
class DetectTask:
    """Find objects. ``format`` is json, coco, image/png or image/jpeg; ``name`` is the image's; ``tile`` is
    the side in pixels of the tiles that it is looked at in as well; the best ``explain`` of what is found are
    explained, in JSON."""

    score_threshold: ScoreThreshold
    max_detections: int
    profile: Profile | None
    classes: str | None
    format: str
    name: str | None
    tile: int | None = None
    explain: int = 0
    kind: Literal["detect"] = field(default="detect", kw_only=True)


@dataclass(frozen=True)
class ClassifyTask:
    """Classify a whole image: the ``top`` classes, by an average over so many ``crops``."""

    top: int
    crops: int
    kind: Literal["classify"] = field(default="classify", kw_only=True)


Task = DetectTask | ClassifyTask


@dataclass
class DeviceTask(_Message):
    """A task for the image in ``body``.

    ``deadline`` is a time of ``time.monotonic``. ``client`` and ``request`` say whose turns its rows count
    for; records of the log carry ``request_id`` and ``trace_id``. With a trace the answer states its stages.
    """

    id: int
    model: str
    task: Annotated[Task, Field(discriminator="kind")]
    deadline: float
    client: str
    request: int
    request_id: str | None
    trace_id: str | None = None
    op: Literal["task"] = field(default="task", kw_only=True)


@dataclass
class Cancel(_Message):
    """Nobody waits for the answer to a task any more."""

    id: int
    op: Literal["cancel"] = field(default="cancel", kw_only=True)


@dataclass
class Stop(_Message):
    """The worker is to end: it owes nothing."""

    op: Literal["stop"] = field(default="stop", kw_only=True)


@dataclass
class Ready(_Message):
    """The models are loaded, the default one first; the device does ``rate`` regions a second."""

    models: list[ModelInfo]
    device: str
    rate: float
    op: Literal["ready"] = field(default="ready", kw_only=True)


@dataclass
class Failed(_Message):
    """The worker cannot start, and would not if it were tried again."""

    message: str
    op: Literal["failed"] = field(default="failed", kw_only=True)


@dataclass(frozen=True)
class Stage:
    """A stage of an image's way through the worker, for traces.

    ``start`` and ``end`` are times of ``time.monotonic``, which all processes of a machine share; ``waited``
    are the seconds in between that it waited for its turn on the device.
    """

    name: str
    start: float
    end: float
    waited: float


@dataclass
class Answer(_Message):
    """What was found in an image of ``width`` x ``height`` pixels by a model.

    ``body`` is of ``media_type``: a JSON list of objects or classes, a COCO data set, or a drawn image.
    ``timing_ms`` gives the milliseconds of each stage, all waiting apart as ``queue``. ``stages`` tells when
    each was, in order, if the task is part of a trace.
    """

    id: int
    width: int
    height: int
    frames: int
    model: str
    media_type: str
    timing_ms: dict[str, float]
    stages: tuple[Stage, ...] = ()
    op: Literal["answer"] = field(default="answer", kw_only=True)


@dataclass
class Refusal(_Message):
    """Why there is no answer to a task: the parts of an :class:`api.protocol.errors.ApiError`."""

    id: int
    status: int
    code: str
    message: str
    op: Literal["error"] = field(default="error", kw_only=True)


@dataclass
class Report(_Message):
    """What the device did since the last report, and what waits now.

    ``queued`` regions wait; ``regions`` were run, in batches of which ``fills`` gives the share, 0..1, that
    was filled. The oldest batch under way has been there for ``stuck`` seconds. In ``full_seconds`` more was
    waiting than was under way, and what was done in them takes as long as ``full_regions`` of shared maps.
    ``memory`` is in bytes.
    """

    queued: int
    regions: int
    fills: tuple[float, ...]
    stuck: float
    full_regions: int
    full_seconds: float
    memory: int
    log_lines_lost: int
    op: Literal["report"] = field(default="report", kw_only=True)


ToWorker = WorkerSettings | DeviceTask | Cancel | Stop
FromWorker = Ready | Failed | Answer | Refusal | Report
