"""What the front asks a worker for, one picture each."""

from dataclasses import dataclass
from typing import Any

from detector.options import Profile


@dataclass(frozen=True)
class DetectTask:
    """Find objects. ``format`` is json, coco, image/png or image/jpeg; ``name`` is the picture's."""

    score_threshold: float
    max_detections: int
    profile: Profile | None
    classes: str | None
    format: str
    name: str | None


@dataclass(frozen=True)
class ClassifyTask:
    """Say what a whole picture shows."""

    top: int
    crops: int


Task = DetectTask | ClassifyTask

_KINDS: dict[str, type[DetectTask] | type[ClassifyTask]] = {"detect": DetectTask, "classify": ClassifyTask}


def task_header(task: Task) -> dict[str, Any]:
    """A task as it passes to a worker; :func:`task_of` reads it."""
    kind = next(kind for kind, of in _KINDS.items() if isinstance(task, of))
    return {"kind": kind, "parameters": vars(task)}


def task_of(header: dict[str, Any]) -> Task:
    """What :func:`task_header` wrote."""
    return _KINDS[header["kind"]](**header["parameters"])
