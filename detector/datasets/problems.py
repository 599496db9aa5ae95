"""Problems of a data set: their kinds, what each costs, and whether a reader stops at them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from detector.errors import DatasetError

ProblemKind = Literal[
    "missing_image",
    "unreadable_image",
    "missing_annotation",
    "unreadable_annotation",
    "size_mismatch",
    "unknown_class",
    "unreadable_object",
    "box_outside",
    "empty_box",
    "duplicate_id",
    "filename_mismatch",
    "odd_value",
    "unread_kind",
]


_CONSEQUENCE: dict[ProblemKind, str] = {
    "missing_image": "leaves this picture out",
    "unreadable_image": "leaves this picture out",
    "missing_annotation": "leaves this picture out",
    "unreadable_annotation": "leaves this picture out",
    "size_mismatch": "brings its boxes to the size of the picture file",
    "unknown_class": "leaves this object out",
    "unreadable_object": "leaves this object out",
    "box_outside": "cuts this box at the picture's edge",
    "empty_box": "leaves this object out",
    "duplicate_id": "leaves this picture out",
    "filename_mismatch": "takes the picture that is called as its annotation is",
    "odd_value": "passes over this value",
    "unread_kind": "passes over these files",
}


@dataclass(frozen=True)
class Problem:
    """Something wrong with one picture or one of its boxes.

    ``kind`` is stable and meant for programs; ``message`` names the file and is meant for people.
    """

    image_id: str
    kind: ProblemKind
    message: str

    def __str__(self) -> str:
        return f"{self.image_id}: {self.kind}: {self.message}"


class OnProblem(Enum):
    """``STOP`` raises DatasetError at the first problem; ``REPORT`` goes on and collects them all."""

    STOP = "stop"
    REPORT = "report"


@dataclass(frozen=True)
class ProblemLog:
    """Collects the problems of one reading, or stops at the first."""

    on_problem: OnProblem
    problems: list[Problem] = field(default_factory=list)

    def report(self, image_id: str, kind: ProblemKind, message: str) -> None:
        """Take note of a problem. Raises DatasetError, naming the picture, where the caller chose STOP."""
        if self.on_problem is OnProblem.STOP:
            raise DatasetError(
                f"{image_id}: {message}. Correct the file or take the picture off the list; "
                f"reading with OnProblem.REPORT {_CONSEQUENCE[kind]} and goes on"
            )
        self.problems.append(Problem(image_id, kind, message))


def left_out(problems: Iterable[Problem]) -> int:
    """Count the pictures that problems have left out: whoever states a figure says so beside it."""
    return len(
        {
            problem.image_id
            for problem in problems
            if _CONSEQUENCE[problem.kind] == _CONSEQUENCE["missing_image"]
        }
    )
