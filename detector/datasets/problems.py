"""What a reader does about a broken picture or box: stop at once, or go on and name it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from detector.datasets.folder_tree import FolderTree
from detector.datasets.record import Problem, ProblemKind
from detector.errors import DatasetError

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


def left_out(problems: Iterable[Problem]) -> int:
    """Count the pictures that problems have left out: whoever states a figure says so beside it."""
    return len({one.image_id for one in problems if _CONSEQUENCE[one.kind] == _CONSEQUENCE["missing_image"]})


def unread_folders(tree: FolderTree) -> list[Problem]:
    """A problem for each folder of a tree that could not be read."""
    return [
        Problem(
            str(path),
            "unreadable_annotation",
            f"folder {path} cannot be read ({why}): all that lies in it is left out",
        )
        for path, why in tree.unread.items()
    ]


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
