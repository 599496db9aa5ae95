"""Several networks as one: the same crops through each, their outputs averaged.

GoogLeNet's detector was an ensemble of six, its classifier one of seven (arXiv 1409.4842, sections 7 and 8).
Members that were fine-tuned from the same weights with their first stages frozen have those in common: they
run once. Letters for shapes: M members, R regions, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from detector.errors import CheckpointError
from detector.inference.class_activation import ClassLayer
from detector.inference.engine import Engine, Outputs
from detector.inference.executor import Executor, ForwardRequest, MakeCrops, run_directly, with_mirrored
from detector.models.metadata import Metadata
from detector.options import CROP_COST
from detector.threads import default_threads


@dataclass(frozen=True)
class Member:
    """What a network of an ensemble can do: its metadata, and which heads it has for regions."""

    metadata: Metadata
    moves_boxes: bool = False
    predicts_iou: bool = False

    @property
    def detects(self) -> bool:
        """Whether it is a detector; else it classifies whole images alone."""
        return self.metadata.detection is not None


class Ensemble(ABC):
    """The networks of one or more checkpoints, ready to run: what detectors and classifiers share.

    :func:`detector.inference.loading.load_ensemble` makes one of files. A Detector and a Classifier of one
    ensemble have its weights in memory once. Which engine runs the networks, where and in which precision, is
    the business of the two kinds of it, :class:`detector.inference.torch_ensemble.TorchEnsemble` and
    :class:`detector.inference.graph_ensemble.GraphEnsemble`.
    """

    members: tuple[Member, ...]
    engine: str
    """``torch``, ``openvino`` or ``onnxruntime``."""
    device: str
    """``cpu`` or ``cuda:N``."""
    precision: str
    """``float32``, ``bfloat16``, ``float16`` or ``int8``: that of the trunks."""

    @property
    def name(self) -> str:
        """The members' names as one, as replies state it."""
        return " + ".join(member.metadata.name for member in self.members)

    @property
    def streams(self) -> int:
        """How many batches run best at once, each on one thread: one for each thread of a CPU."""
        return default_threads() if self.device == "cpu" else 1

    @abstractmethod
    def first(self, count: int) -> Self:
        """Return the first members as an ensemble of their own, in the same memory."""

    @abstractmethod
    def with_streams(self, count: int) -> Self:
        """Return the same networks, in the same memory, for so many batches beside each other on a CPU, each
        on one thread."""

    @abstractmethod
    def alike_through(self, stage: str) -> list[list[int]]:
        """Group members, by their numbers, whose stages up to ``stage`` are the same.

        Raises ParameterError if the trunk has no such stage.
        """

    @abstractmethod
    def image_engine(self, member: int, stage: str | None, *, multibox: bool) -> Engine:
        """Return an engine for whole images, one at a time: [1,3,H,W] -> ``maps`` [1,K,h,w] of a stage, if
        one is named, and, with ``multibox``, ``objectness`` [1,A] and ``offsets`` [1,A,4] of the member's
        head."""

    @abstractmethod
    def region_engine(
        self,
        members: Sequence[int],
        *,
        after: str | None = None,
        batch: int | None = None,
        compile: bool = False,
    ) -> Engine:
        """Return an engine for regions: crops [R,3,224,224], or maps of the stage ``after`` which the trunks
        go on -> of the m-th of ``members`` ``m.probabilities`` [R,C+1] and, where it has such a head,
        ``m.deltas`` [R,4] and ``m.predicted_iou`` [R].

        ``batch``: the most rows at once, if not as many as are best; ``compile`` spends time on a faster
        program where the engine knows how.
        """

    @abstractmethod
    def last_maps_engine(
        self, members: Sequence[int], *, after: str | None = None, batch: int | None = None
    ) -> Engine:
        """Return an engine for regions that ends before the heads: rows as of :meth:`region_engine` -> of the
        m-th of ``members`` ``m.last_maps`` [R,1024,7,7], which its heads read. It costs nothing until it
        runs."""

    @abstractmethod
    def class_layer(self, member: int) -> ClassLayer:
        """Return the linear layer by which a member that detects classifies the mean of its last maps."""

    @abstractmethod
    def classifier_engine(self, *, batch: int | None = None) -> Engine:
        """Return an engine for whole images as crops: [K,3,224,224] -> of member m ``m.probabilities``
        [K,C], its softmax."""

    @abstractmethod
    def release_memory(self) -> None:
        """Give memory back that only running networks need. They take it again when they run."""

    def check_alike(self, task: str) -> None:
        """Raise CheckpointError unless all members are for the same classes and the same kind of crop.

        ``task`` is ``detection`` or ``classification``.
        """
        first = self.members[0].metadata
        for metadata in (member.metadata for member in self.members[1:]):
            if getattr(first, task) != getattr(metadata, task):
                raise CheckpointError(
                    f"{metadata.name} cannot be averaged with {first.name}: they have other classes of "
                    f"{task}; the members of an ensemble are trained on one class list"
                )
            if _seen_by(first, task) != _seen_by(metadata, task):
                raise CheckpointError(
                    f"{metadata.name} cannot be averaged with {first.name}: they see pictures prepared "
                    f"otherwise ({_seen_by(metadata, task)}, {_seen_by(first, task)}); give the members of "
                    "an ensemble one recipe"
                )


def _seen_by(metadata: Metadata, task: str) -> object:
    """Return how a network of a task sees images: a classifier always sees crops without context."""
    prepare = metadata.preprocessing
    if task == "classification":
        return prepare.mean, prepare.std, prepare.size
    return prepare, metadata.shared_maps


class RegionPrediction(NamedTuple):
    """Raw outputs for R regions: what is known of them before any scoring.

    probabilities [R,C+1], background last; deltas [R,4], None if no head moves boxes; predicted_iou [R] in
    0..1, None without a head for it.
    """

    probabilities: NDArray[np.float32]
    deltas: NDArray[np.float32] | None
    predicted_iou: NDArray[np.float32] | None

    def rows(self, chosen: NDArray[np.int64]) -> "RegionPrediction":
        """Return the outputs of some of the regions, by their numbers [R']."""
        return RegionPrediction(
            self.probabilities[chosen],
            self.deltas[chosen] if self.deltas is not None else None,
            self.predicted_iou[chosen] if self.predicted_iou is not None else None,
        )


def average(predictions: Sequence[RegionPrediction]) -> RegionPrediction:
    """Return the mean of several predictions of the same regions in the same order.

    Offsets are the mean of the members that give some; there is a predicted IoU only if all give one.
    """
    deltas = [prediction.deltas for prediction in predictions if prediction.deltas is not None]
    ious = [prediction.predicted_iou for prediction in predictions if prediction.predicted_iou is not None]
    return RegionPrediction(
        _mean([prediction.probabilities for prediction in predictions]),
        _mean(deltas) if deltas else None,
        _mean(ious) if len(ious) == len(predictions) else None,
    )


class RegionEnsemble:
    """Predicts regions with one or more networks of an ensemble."""

    def __init__(self, engine: Engine, members: int, cost: int = CROP_COST) -> None:
        """``engine`` is one of :meth:`Ensemble.region_engine` for so many members; ``cost`` is what a row
        takes, as of a ForwardRequest."""
        self.engine, self.region_cost = engine, cost
        self._members = members

    def predict(
        self,
        rows: int,
        make_crops: MakeCrops,
        *,
        flip: bool = False,
        make_mirrored: MakeCrops | None = None,
        executor: Executor = run_directly,
    ) -> list[RegionPrediction]:
        """Return each member's prediction of R rows of crops [R,3,224,224], or of maps.

        With ``flip`` every row is also seen mirrored, and both are averaged. ``make_mirrored`` makes the
        mirrored rows [crops turned].
        """
        looks = _run_looks(self.engine, self.region_cost, rows, make_crops, flip, make_mirrored, executor)
        plain, *mirrored = [self._predictions(outputs) for outputs in looks]
        if not mirrored:
            return plain
        return [average([a, _turned_back(b)]) for a, b in zip(plain, *mirrored, strict=True)]

    def _predictions(self, outputs: Outputs) -> list[RegionPrediction]:
        """Take outputs of R rows apart, member by member."""
        return [
            RegionPrediction(
                outputs[f"{index}.probabilities"],
                outputs.get(f"{index}.deltas"),
                outputs.get(f"{index}.predicted_iou"),
            )
            for index in range(self._members)
        ]


class LastMaps:
    """Computes what the heads of one or more networks of an ensemble read."""

    def __init__(self, engine: Engine, members: int, cost: int = CROP_COST) -> None:
        """``engine`` is one of :meth:`Ensemble.last_maps_engine` for so many members; ``cost`` as of
        :class:`RegionEnsemble`."""
        self._engine, self._members, self._cost = engine, members, cost

    def of(
        self,
        rows: int,
        make_crops: MakeCrops,
        *,
        flip: bool = False,
        make_mirrored: MakeCrops | None = None,
        executor: Executor = run_directly,
    ) -> list[list[NDArray[np.float32]]]:
        """Return each member's last maps [R,1024,7,7] of R rows as of :meth:`RegionEnsemble.predict`; with
        ``flip`` also those of the mirrored rows, turned back."""
        looks = _run_looks(self._engine, self._cost, rows, make_crops, flip, make_mirrored, executor)
        return [
            [outputs[f"{index}.last_maps"][..., :: -1 if look else 1] for look, outputs in enumerate(looks)]
            for index in range(self._members)
        ]


def _run_looks(
    engine: Engine,
    cost: int,
    rows: int,
    make_crops: MakeCrops,
    flip: bool,
    make_mirrored: MakeCrops | None,
    executor: Executor,
) -> list[Outputs]:
    """Return the outputs of R rows, and with ``flip`` those of the mirrored rows."""
    if not flip:
        return [executor(ForwardRequest(engine, rows, make_crops, cost=cost))]
    both = with_mirrored(make_crops, rows, engine.arrays, make_mirrored)
    outputs = executor(ForwardRequest(engine, 2 * rows, both, cost=cost))
    return [
        {name: column[part] for name, column in outputs.items()} for part in (slice(rows), slice(rows, None))
    ]


def _turned_back(mirrored: RegionPrediction) -> RegionPrediction:
    """Return a prediction of mirrored crops as one of the crops: mirroring turns the sign of dx alone."""
    if mirrored.deltas is None:
        return mirrored
    return mirrored._replace(deltas=mirrored.deltas * np.array([-1, 1, 1, 1], np.float32))


def _mean(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return sum(values[1:], start=values[0]) / np.float32(len(values)) if len(values) > 1 else values[0]
