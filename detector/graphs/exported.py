"""The file of an exported network: an ONNX model that any runtime takes, and that this project reads again.

Beside the graph it carries the checkpoint's metadata as JSON, and each of its tensors: most of them are the
graph's own constants under the checkpoint's names, 8 bits with their steps among them; those that the graph
has in another form are added. A digest covers constants, nodes and metadata. So such a file is weights
wherever a checkpoint is, whatever the engine.
"""

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detector.errors import CheckpointError, ParameterError
from detector.graphs.networks import GraphOptions, classifier_graph, detector_graph, region_graph
from detector.io.readable_files import unreadable
from detector.io.terminal_text import one_line
from detector.models.checkpoint_file import header_digest
from detector.models.metadata import Metadata, metadata_from
from detector.models.weights import Weights, check_labels

__all__ = ["Task", "exported_model", "read_exported"]

FORMAT = "googlenet-detector-onnx/1"

_ENTRY = "googlenet-detector"
"""The key of the JSON object in the model's properties."""


class Task(StrEnum):
    """What an exported network is for."""

    DETECT = "detect"
    CLASSIFY = "classify"


def exported_model(weights: Weights, task: Task, numbers: str) -> onnx.ModelProto:
    """Return the model of a task, its convolutions in ``float32``, ``float16`` or ``int8``.

    ``detect``: :func:`detector.graphs.networks.detector_graph` where regions share maps, else crops of
    regions ``rows`` [R,3,224,224] -> ``0.probabilities`` and so on. ``classify``: ``rows`` [K,3,224,224] ->
    ``0.probabilities`` [K,C]. Raises ParameterError for a task that the weights are not for, or int8 without
    ranges of activations."""
    metadata, options = weights.metadata, GraphOptions(numbers)
    if task is Task.CLASSIFY:
        if metadata.classification is None:
            raise ParameterError(f"{metadata.name} was made for detection alone: export the task 'detect'")
        model = classifier_graph([weights], options)
    elif metadata.detection is None:
        raise ParameterError(f"{metadata.name} classifies whole pictures: export the task 'classify'")
    elif metadata.shared_maps is not None:
        model = detector_graph(weights, options)
    else:
        model = region_graph([weights], None, options)
    places = {name: _place(model, name, value) for name, value in weights.tensors.items()}
    header = {"format": FORMAT, "task": task, "numbers": numbers, "tensors": places}
    header |= metadata.as_json()
    header["graph_sha256"] = _digest(model)
    header["sha256"] = header_digest(header)
    helper.set_model_props(
        model, {_ENTRY: json.dumps(header), "classes": json.dumps(_classes(metadata, task))}
    )
    onnx.checker.check_model(model)
    return model


def read_exported(path: Path) -> Weights:
    """Read an exported model as weights; what is in 8 bits comes back as the numbers that it stands for.

    Raises CheckpointError for a file that is missing, damaged, or not an export of this project's.
    """
    if (reason := unreadable(path)) is not None:
        raise CheckpointError(reason)
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the decoder of protobuf has errors of its own
        raise CheckpointError(f"{path} is no whole ONNX file: copy or download it again") from error
    if not model.graph.node:  # an empty file is a model of nothing
        raise CheckpointError(f"{path} is no whole ONNX file: copy or download it again")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if _ENTRY not in properties:
        raise CheckpointError(
            f"{path} is an ONNX model, but none that `detector export` wrote; a GoogLeNet of others comes in "
            "through `detector weights import onnx`"
        )
    try:
        header = json.loads(properties[_ENTRY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata is no JSON: {one_line(error)}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        stated = header.get("format") if isinstance(header, dict) else None
        raise CheckpointError(f"{path} has format {one_line(repr(stated))}; this version reads {FORMAT!r}")
    try:
        graph_digest = _digest(model)
    except Exception:  # of constants that are none: onnx raises nearly anything
        graph_digest = ""
    if header.get("sha256") != header_digest(header) or header.get("graph_sha256") != graph_digest:
        raise CheckpointError(
            f"{path} is not as it was written: its graph or its metadata do not have the SHA-256 that it "
            "states. Export it again"
        )
    metadata = metadata_from(header, path)
    tensors = _tensors(model, header.get("tensors"), path)
    check_labels(metadata, tensors, str(path))
    return Weights(metadata, tensors, str(path), numbers=str(header.get("numbers")))


def _place(model: onnx.ModelProto, name: str, value: NDArray[Any]) -> list[str]:
    """Return the names of the constants that a tensor of the checkpoint stands in, one, or 8 bits and their
    steps; where there are none it is added to the model."""
    constants = {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    for bits in (f"{name}.int8", f"{name}.int32"):
        if bits in constants:
            return [bits, f"{name}.scale"]
    if constants.get(name) == value.shape:
        return [name]
    stored = f"checkpoint.{name}"
    value = value.astype(np.float32) if value.dtype.name == "bfloat16" else value
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), stored))
    return [stored]


def _tensors(model: onnx.ModelProto, places: Any, path: Path) -> dict[str, NDArray[Any]]:
    """Return the checkpoint's tensors out of a model's constants."""
    constants = {entry.name: entry for entry in model.graph.initializer}
    arrays: dict[str, NDArray[Any]] = {}
    try:
        for name, stored in places.items():
            value, *steps = (numpy_helper.to_array(constants[constant]) for constant in stored)
            if steps:
                of_filters = steps[0].reshape(-1, *[1] * (value.ndim - 1))
                value = (value.astype(np.float32) * of_filters).astype(np.float32)
            arrays[name] = value
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its constants cannot be read: {one_line(error)}") from error
    return arrays


def _digest(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of a model's constants, nodes, inputs and outputs.

    Raises an error of any kind for constants that cannot be read."""
    digest = hashlib.sha256()
    for constant in sorted(model.graph.initializer, key=lambda entry: entry.name):
        if constant.data_location == TensorProto.EXTERNAL:
            raise ValueError("other files are not read")
        digest.update(f"{constant.name} {constant.data_type} {list(constant.dims)}\n".encode())
        digest.update(numpy_helper.to_array(constant).tobytes())
    for node in model.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    for entry in (*model.graph.input, *model.graph.output):
        digest.update(entry.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _classes(metadata: Metadata, task: Task) -> list[str]:
    """Return the classes' names in the order of the outputs; background is the last of a detector's."""
    if task is Task.CLASSIFY:
        assert metadata.classification is not None
        return list(metadata.classification.names)
    assert metadata.detection is not None
    return [*metadata.detection.names, "background"]
