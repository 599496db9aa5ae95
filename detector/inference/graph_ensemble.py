"""Checkpoints run as graphs on a CPU, by OpenVINO or ONNX Runtime, without torch."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import onnx

from detector.graphs.networks import (
    GraphOptions,
    check_weights,
    classifier_graph,
    image_graph,
    last_maps_graph,
    region_graph,
    same_stages,
)
from detector.graphs.stages import stages_through, trunk_of
from detector.inference.class_activation import ClassLayer
from detector.inference.ensemble import Ensemble, Member
from detector.inference.graph_engine import GraphEngine, choose_precision, compile_graph
from detector.memory import give_back_free_memory
from detector.models.weights import Weights

_CLASSIFIER, _LAST_MAPS = "classifier", "last maps"

_FORGOTTEN = (_CLASSIFIER, _LAST_MAPS)
"""Graphs that an idle process keeps none of: they have stages of the trunk once more, and are compiled in a
moment."""


class GraphEnsemble(Ensemble):
    """Weights of which a graph is made for each task and compiled once, when it is first needed."""

    device = "cpu"

    def __init__(
        self,
        weights: Sequence[Weights],
        engine: str,
        *,
        precision: str = "auto",
        streams: int | None = None,
    ) -> None:
        """``engine`` is ``openvino`` or ``onnxruntime``; ``streams`` is how many batches will run beside each
        other, each on one thread; None runs one at a time, on all of them.

        Raises CheckpointError for weights that do not fit the network that they name, ParameterError for a
        precision that the engine, the processor or the weights do not have.
        """
        for some in weights:
            check_weights(some)
        calibrated = all(some.metadata.activation_ranges for some in weights)
        self.engine = engine
        if precision == "auto" and all(some.numbers == "int8" for some in weights):
            precision = "int8"
        self.precision = choose_precision(precision, engine, calibrated=calibrated)
        self.members = tuple(_member(some) for some in weights)
        self._weights = tuple(weights)
        self._streams = streams
        self._made: dict[tuple[object, ...], GraphEngine] = {}

    def first(self, count: int) -> Self:
        some = self._weights[:count]
        ensemble = type(self)(some, self.engine, precision=self.precision, streams=self._streams)
        ensemble._made = self._made  # what is made of the same members is the same
        return ensemble

    def with_streams(self, count: int) -> Self:
        return type(self)(self._weights, self.engine, precision=self.precision, streams=count)

    def alike_through(self, stage: str) -> list[list[int]]:
        trunk = trunk_of(self._weights[0].metadata.architecture)
        cut = stages_through(trunk, stage)
        groups: list[list[int]] = []
        for index, weights in enumerate(self._weights):
            for group in groups:
                if same_stages([self._weights[group[0]], weights], trunk[:cut]) == cut:
                    group.append(index)
                    break
            else:
                groups.append([index])
        return groups

    def image_engine(self, member: int, stage: str | None, *, multibox: bool) -> GraphEngine:
        return self._engine(
            ("image", member, stage, multibox),
            lambda: image_graph(self._weights[member], stage, multibox=multibox, options=self._options()),
            batch=1,
        )

    def region_engine(
        self,
        members: Sequence[int],
        *,
        after: str | None = None,
        batch: int | None = None,
        compile: bool = False,
    ) -> GraphEngine:
        return self._engine(
            ("regions", tuple(members), after, batch),
            lambda: region_graph([self._weights[index] for index in members], after, self._options()),
            batch=batch,
            reads_maps=after is not None,
        )

    def last_maps_engine(
        self, members: Sequence[int], *, after: str | None = None, batch: int | None = None
    ) -> GraphEngine:
        return self._engine(
            (_LAST_MAPS, tuple(members), after, batch),
            lambda: last_maps_graph([self._weights[index] for index in members], after, self._options()),
            batch=batch,
            reads_maps=after is not None,
        )

    def class_layer(self, member: int) -> ClassLayer:
        tensors = self._weights[member].tensors
        return ClassLayer(
            tensors["backbone.classifier.weight"].astype(np.float32),
            tensors["backbone.classifier.bias"].astype(np.float32),
            tensors["pooling.labels"].astype(np.int64),
        )

    def classifier_engine(self, *, batch: int | None = None) -> GraphEngine:
        return self._engine(
            (_CLASSIFIER, len(self._weights), batch),
            lambda: classifier_graph(self._weights, self._options()),
            batch=batch,
        )

    def release_memory(self) -> None:
        for (task, *_), engine in self._made.items():
            engine.release_memory(forget=task in _FORGOTTEN)
        give_back_free_memory()

    def _engine(
        self,
        key: tuple[object, ...],
        make: Callable[[], onnx.ModelProto],
        *,
        batch: int | None,
        reads_maps: bool = False,
    ) -> GraphEngine:
        if key not in self._made:
            self._made[key] = GraphEngine(
                lambda: compile_graph(
                    self.engine,
                    make(),
                    precision=self.precision,
                    streams=self._streams,
                ),
                batch=batch,
                streams=self._streams or 1,
                reads_maps=reads_maps,
            )
        return self._made[key]

    def _options(self) -> GraphOptions:
        return GraphOptions(
            "int8" if self.precision == "int8" else "float32",
            native_lrn=self.engine == "openvino",
        )


def _member(weights: Weights) -> Member:
    located = weights.has("location_head.")
    return Member(weights.metadata, located or weights.has("box_head."), located or weights.has("fit_head."))
