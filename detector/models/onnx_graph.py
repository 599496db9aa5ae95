"""Reading of an ONNX file as a graph: nodes by the values that they give, constants as arrays.

Nothing is run, and nothing is read but the file and files of weights beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.errors import CheckpointError
from detector.io.readable_files import unreadable
from detector.io.terminal_text import one_line, printable_path
from detector.models.weights_file import read_weights_file

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

PRODUCER = "googlenet-detector"
"""What graphs that this project writes name as their producer."""

NEWEST_OPSET = 28
"""The newest opset whose operators were compared with how graphs are read here."""

NEWEST_IR = 14
"""The newest version of the file format itself."""

_LARGEST_FILE = 256 * 2**20
"""Bytes; GoogLeNet in double precision, with auxiliary classifiers, has 107 MB."""

_LARGEST_ARRAY = 2**23
"""Numbers in one array; GoogLeNet's largest has 2**20."""

_DEEPEST = 16
"""Operations between a stored array and the node that takes it."""


class OnnxGraph:
    """The graph of an ONNX model: which node gives a value, and which values are constants."""

    def __init__(self, model: ModelProto, path: Path) -> None:
        self._path = path
        self.shown = printable_path(path)
        self.opset = next(
            (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None
        )
        graph = model.graph
        self._stored: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes = len(graph.node)
        self._producers: dict[str, NodeProto] = {}
        for node in graph.node:
            for value in node.output:
                if value and self._producers.setdefault(value, node) is not node:
                    raise self.error(f"two nodes give the value {quoted(value)}; export the model again")
        self.inputs = {info.name: info for info in graph.input if info.name not in self._stored}
        self.outputs = [info.name for info in graph.output]
        self._arrays: dict[str, np.ndarray | None] = {}

    def error(self, text: str) -> CheckpointError:
        """Return an error about the file, to be raised."""
        return CheckpointError(f"{self.shown}: {text}")

    def producer(self, value: str) -> NodeProto | None:
        """Return the node that gives a value; None for inputs and stored arrays."""
        return self._producers.get(value)

    def array(self, value: str, what: str) -> np.ndarray:
        """Return a constant. Raises CheckpointError, which says ``what`` it is, for a computed value."""
        array = self.constant(value)
        if array is None:
            node = self.producer(value)
            how = f"computed by {describe(node)}" if node else "an input of the graph or missing"
            raise self.error(f"{what} are not stored in it but {how}; export the model with its weights")
        return array

    def constant(self, value: str, depth: int = 0) -> np.ndarray | None:
        """Return a stored array, or what few simple operations make of one; None for any other value.

        Raises CheckpointError for an array that is damaged or whose file is not there.
        """
        if value not in self._arrays:
            self._arrays[value] = None  # whatever leads back to itself is no constant
            self._arrays[value] = self._constant(value, depth)
        return self._arrays[value]

    def _constant(self, value: str, depth: int) -> np.ndarray | None:
        if value in self._stored:
            return self._tensor(self._stored[value])
        node = self.producer(value)
        if node is None or node.domain not in ("", "ai.onnx", "com.microsoft"):
            return None
        if node.op_type == "Constant":
            return self._constant_node(node)
        if node.op_type not in _FOLDED or depth == _DEEPEST:
            return None
        inputs = [self.constant(name, depth + 1) if name else None for name in node.input]
        if not inputs or inputs[0] is None:
            return None
        try:
            return self._fold(node, inputs[0], inputs[1:])
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise self.error(f"{describe(node)} does not fit its constant: {one_line(error, 120)}") from error

    def _fold(self, node: NodeProto, array: np.ndarray, rest: Sequence[np.ndarray | None]) -> np.ndarray:
        """Return what a node makes of a constant and further ones."""
        match node.op_type:
            case "Reshape":
                sides = rest[0].tolist() if rest and rest[0] is not None else self.ints(node, "shape", [])
                return array.reshape([array.shape[i] if side == 0 else side for i, side in enumerate(sides)])
            case "Transpose":
                return array.transpose(self.ints(node, "perm", list(range(array.ndim))[::-1]))
            case "Cast":
                return array.astype(np.float32)
            case "DequantizeLinear" | "QuantizeLinear":
                if self.integer(node, "block_size", 0):
                    raise ValueError("blocks with scales of their own are not read")
                if not rest or rest[0] is None:
                    raise ValueError("its scale is no constant")
                zero = rest[1] if len(rest) > 1 else None
                axis = self.integer(node, "axis", 1)
                if node.op_type == "DequantizeLinear":
                    return dequantised(array, rest[0], zero, axis)
                return _quantised(array, rest[0], zero, axis)
        return array  # Identity

    def _constant_node(self, node: NodeProto) -> np.ndarray | None:
        for attribute in node.attribute:
            match attribute.name:
                case "value":
                    return self._tensor(attribute.t)
                case "value_float" | "value_floats":
                    return np.array(list(attribute.floats) or attribute.f, np.float32)
                case "value_int" | "value_ints":
                    return np.array(list(attribute.ints) or attribute.i, np.int64)
        return None

    def _tensor(self, tensor: TensorProto) -> np.ndarray:
        """Return a stored array in its own type; bfloat16, which NumPy lacks, as float32."""
        import onnx

        label = f"the array {quoted(tensor.name)}"
        sides = list(tensor.dims)
        if min(sides, default=0) < 0 or math.prod(sides) > _LARGEST_ARRAY:
            raise self.error(f"{label} has sides {one_line(sides, 60)}; GoogLeNet has none like it")
        names = {getattr(onnx.TensorProto, name): name.lower() for name in _TYPES}
        if tensor.data_type not in names:
            raise self.error(f"{label} is of a type that is not read; export the model as float32")
        try:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
                data = self._beside(tensor, label, math.prod(sides) * dtype.itemsize)
                array = np.frombuffer(data, dtype.newbyteorder("<")).reshape(sides)
            else:
                array = onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise self.error(f"{label} is damaged; download the file again") from error
        return array.astype(np.float32) if names[tensor.data_type] == "bfloat16" else array

    def _beside(self, tensor: TensorProto, label: str, size: int) -> bytes:
        """Read an array's ``size`` bytes from the file beside the graph in which they are kept."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        folder = self._path.parent.resolve()
        parts = PurePosixPath(location).parts
        inside = bool(parts) and "\0" not in location and "\\" not in location
        if not inside or location.startswith("/") or ".." in parts:
            raise self.error(f"{label} is kept in {quoted(location)}, outside of the file's folder; refused")
        try:
            file = (folder / location).resolve()
        except (OSError, RuntimeError, ValueError):  # names too long, links in a circle
            raise self.error(f"{label} is kept in {quoted(location)}, which is no file") from None
        if not file.is_relative_to(folder):
            raise self.error(f"{label} is kept in {quoted(location)}, outside of the file's folder; refused")
        if (reason := unreadable(file)) is not None:
            raise self.error(
                f"{label} is kept in another file, {reason}; models with weights apart are kept together"
            )
        offset = int(entries.get("offset") or 0)
        if int(entries.get("length") or size) != size or not 0 <= offset <= file.stat().st_size - size:
            raise self.error(f"{label} is not whole in {quoted(location)}; download that file again")
        try:
            with file.open("rb") as stream:
                stream.seek(offset)
                return stream.read(size)
        except OSError as error:
            raise self.error(f"{quoted(location)} cannot be read: {error.strerror or error}") from error

    def ints(self, node: NodeProto, name: str, default: list[int]) -> list[int]:
        """Return an attribute of whole numbers, or the default."""
        value = self._attribute(node, name)
        return default if value is None else list(value.ints)

    def integer(self, node: NodeProto, name: str, default: int) -> int:
        """Return an attribute that is one whole number, or the default."""
        value = self._attribute(node, name)
        return default if value is None else value.i

    def number(self, node: NodeProto, name: str, default: float) -> float:
        """Return an attribute that is a number, or the default."""
        value = self._attribute(node, name)
        return default if value is None else value.f

    def text(self, node: NodeProto, name: str, default: str) -> str:
        """Return an attribute of text, or the default."""
        value = self._attribute(node, name)
        return default if value is None else value.s.decode("utf-8", "replace")

    @staticmethod
    def _attribute(node: NodeProto, name: str) -> Any:
        return next((attribute for attribute in node.attribute if attribute.name == name), None)


_FOLDED = ("Identity", "Reshape", "Transpose", "Cast", "DequantizeLinear", "QuantizeLinear")

_TYPES = (
    "FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT16", "UINT16", "INT32", "INT64"
)  # fmt: skip


def read_graph(path: Path) -> OnnxGraph:
    """Read the graph of an ONNX file. Raises CheckpointError for a file that holds none, or a future one."""
    try:
        import onnx
    except ImportError as error:
        raise CheckpointError("reading ONNX files needs the package onnx: pip install onnx") from error
    from google.protobuf.message import DecodeError

    data = read_weights_file(path, _LARGEST_FILE)
    shown = printable_path(path)
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise CheckpointError(
            f"{shown} is no whole ONNX file; a truncated download, or a foreign format? Download it again"
        ) from error
    if not model.graph.node:
        raise CheckpointError(f"{shown} is no ONNX model: it has no nodes; download it again")
    if model.producer_name == PRODUCER:
        raise CheckpointError(
            f"{shown} was exported by this project; use the checkpoint that it was made from"
        )
    graph = OnnxGraph(model, path)
    if model.ir_version > NEWEST_IR or (graph.opset or 0) > NEWEST_OPSET:
        raise graph.error(
            f"it is newer (IR {model.ir_version}, opset {graph.opset}) than what this version reads (IR "
            f"{NEWEST_IR}, opset {NEWEST_OPSET}); export it with a lower opset, or update googlenet-detector"
        )
    if graph.opset is None or graph.opset < 1:
        raise graph.error("it states no opset; a truncated or damaged file? Download it again")
    return graph


def dequantised(array: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int) -> np.ndarray:
    """Return ``(array - zero) * scale`` as float32; scale and zero are numbers, or vectors along an axis.

    Raises ValueError where they do not fit, or the array does not hold whole numbers.
    """
    if array.dtype.kind not in "iu":
        raise ValueError("a quantised array must hold whole numbers")
    offset = _along(zero, array, axis) if zero is not None else 0.0
    return ((array.astype(np.float64) - offset) * _along(scale, array, axis)).astype(np.float32)


def _quantised(array: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int) -> np.ndarray:
    """Return the whole numbers that stand for ``array``; of the type of ``zero``, or uint8."""
    limits = np.iinfo(zero.dtype if zero is not None else np.uint8)
    offset = _along(zero, array, axis) if zero is not None else 0.0
    with np.errstate(all="ignore"):
        whole = np.rint(array.astype(np.float64) / _along(scale, array, axis)) + offset
    return np.nan_to_num(whole).clip(limits.min, limits.max).astype(limits.dtype)


def _along(vector: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray:
    """Return a scale or a zero point as float64 in a shape that is applied to ``array`` along an axis."""
    if vector.size == 1:
        return vector.astype(np.float64).reshape(())
    if vector.ndim != 1 or vector.size != array.shape[axis]:
        raise ValueError(f"{list(vector.shape)} scales for {list(array.shape)} numbers")
    sides = [1] * array.ndim
    sides[axis] = vector.size
    return vector.astype(np.float64).reshape(sides)


def describe(node: NodeProto) -> str:
    """Return a node in words: its operator, and its name or that of what it gives."""
    name = node.name or next(iter(node.output), "")
    return f"{one_line(node.op_type, 40)} {quoted(name)}"


def quoted(name: str) -> str:
    """Return a name from a file in quotes, printable and of bounded length."""
    return f"'{one_line(name, 80)}'"
