"""What can be wrong with a data set, kind by kind, in words and by consequence."""

from collections.abc import Mapping
from dataclasses import dataclass

from detector.datasets.problems import Problem

LEFT_OUT: Mapping[str, str] = {
    "missing_image": "annotated or listed, but there is no such picture",
    "unreadable_image": "pictures that cannot be read to their end",
    "missing_annotation": "listed pictures without annotation",
    "unreadable_annotation": "annotations that cannot be read",
    "unreadable_object": "objects whose box or class cannot be read",
    "duplicate_id": "pictures that share an id, a file or an annotation: whose boxes are whose is not known",
    "unknown_class": "objects of a class that is not in the list of classes",
    "empty_box": "boxes without extent",
    "box_wholly_outside": "boxes wholly outside their picture",
}
"""Kinds that cost a picture or an object: it is left out of training and measuring."""

TO_LOOK_AT: Mapping[str, str] = {
    "duplicate_across_splits": "the same picture in two splits: what is measured was learnt by heart",
    "near_duplicate_across_splits": "nearly the same picture in two splits",
    "duplicate_picture": "the same picture twice in a split",
    "near_duplicate": "nearly the same picture twice in a split",
    "size_mismatch": "annotations that state another size than their picture's: boxes are scaled",
    "box_outside": "boxes partly outside their picture: they are cut at its edge",
    "filename_mismatch": "annotations that name another picture than the one they are called like",
    "odd_value": "values that could not be read and were made up for",
    "unread_kind": "pictures of kinds that are not read",
    "duplicate_box": "the same object annotated twice",
    "two_classes": "one box with two classes",
    "tiny_box": "boxes too small to be told apart",
    "class_not_trained": "classes with objects to measure by and none to learn from",
    "class_not_measured": "classes with objects to learn from and none to measure by",
    "class_unused": "classes without any object",
    "few_objects": "classes with few objects to learn from",
    "similar_classes": "names of classes that differ in spelling only",
    "unlisted_picture": "pictures beside the others that nothing is said of: they are not used",
    "no_objects": "pictures without objects, which teach what background is",
}
"""Kinds that cost nothing by themselves, and may cost accuracy."""

TITLES: Mapping[str, str] = {**LEFT_OUT, **TO_LOOK_AT}


@dataclass(frozen=True)
class Finding:
    """One thing found. ``where`` is the id of a picture or the name of a class; ``split`` may be empty."""

    kind: str
    split: str
    where: str
    message: str

    @property
    def leaves_out(self) -> bool:
        """Whether something is lost by it."""
        return self.kind in LEFT_OUT


def of_problem(problem: Problem, split: str) -> Finding:
    """Make a finding of what a reader reported."""
    kind: str = problem.kind
    if kind == "box_outside" and " lies wholly outside " in problem.message:
        kind = "box_wholly_outside"
    return Finding(kind, split, problem.image_id, problem.message)
