"""Reading of BVLC GoogLeNet from Caffe's own file, ``bvlc_googlenet.caffemodel``.

The file is one protocol buffer. It is read by the package ``protobuf``, the format's own library, which the
package ``onnx`` brings along, with the few fields that hold weights declared here. Caffe itself is no longer
maintained, and OpenCV dropped its reader with version 5; a generated ``caffe_pb2`` would bring a thousand
fields that nobody reads.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import CheckpointError
from detector.io.terminal_text import one_line, printable_path
from detector.models.caffe_weights import CLASSES, caffe_layers, copy_array, take_rgb
from detector.models.googlenet import GoogLeNet
from detector.models.weights_file import read_weights_file

_LARGEST_FILE = 256 * 2**20
"""Bytes. The published file has 54 MB, auxiliary classifiers included; one with gradients has twice that."""

_FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "NetParameter": (("layers", 2, "V1LayerParameter"), ("layer", 100, "LayerParameter")),
    "V1LayerParameter": (("name", 4, "bytes"), ("blobs", 6, "BlobProto")),  # until 2014
    "LayerParameter": (("name", 1, "bytes"), ("blobs", 7, "BlobProto")),
    "BlobProto": (
        ("num", 1, "int32"),
        ("channels", 2, "int32"),
        ("height", 3, "int32"),
        ("width", 4, "int32"),
        ("data", 5, "bytes"),
        ("shape", 7, "BlobShape"),
        ("double_data", 8, "bytes"),
    ),
    "BlobShape": (("dim", 1, "int64"),),
}
"""Messages of caffe.proto: name, number and type of the fields that hold weights, all of them repeated.

Packed numbers lie in a file as bytes do; ``data`` and ``double_data`` are declared as these, which NumPy
takes at once.
"""


def read_caffemodel(path: Path) -> GoogLeNet:
    """Read the network from a ``.caffemodel`` of BVLC GoogLeNet, with layers in either form that Caffe wrote.

    Layers are found by their names; others, such as the auxiliary classifiers, are left out. Caffe's input is
    BGR; the first convolution's channels are reversed, so that the network takes RGB. Raises CheckpointError
    for a file that is damaged or another network's.
    """
    shown = printable_path(path)
    layers = _layers(path)
    network = GoogLeNet(CLASSES)
    for ours, caffe in caffe_layers().items():
        if caffe not in layers:
            raise CheckpointError(f"{shown}: layer {caffe!r} is missing; this is not BVLC GoogLeNet")
        blobs = layers[caffe]
        if len(blobs) != 2:
            raise CheckpointError(f"{shown}: layer {caffe!r} has {len(blobs)} arrays, not weights and biases")
        for parameter, blob in zip(("weight", "bias"), blobs, strict=True):
            label = f"{shown}: the {parameter} of layer {caffe!r}"
            array = _array(blob, label)
            if caffe == "loss3/classifier" and parameter == "bias" and array.size != CLASSES:
                raise CheckpointError(f"{label} is of {array.size} classes, not of ILSVRC's {CLASSES}")
            copy_array(network, f"{ours}.{parameter}", array, label)
    take_rgb(network)
    return network


def _layers(path: Path) -> dict[str, Any]:
    """Return the arrays of each layer that has any, as messages, by the layer's name."""
    data = read_weights_file(path, _LARGEST_FILE)
    shown = printable_path(path)
    if data.startswith(b"\x89HDF"):
        raise CheckpointError(
            f"{shown} is an HDF5 file; save the net as .caffemodel (snapshot_format BINARYPROTO)"
        )
    try:
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise CheckpointError(
            "reading .caffemodel files needs the package protobuf: pip install onnx"
        ) from error
    try:
        net = _net_parameter().FromString(data)
    except DecodeError as error:
        raise CheckpointError(
            f"{shown} is no whole .caffemodel; a truncated download, or a foreign format? Download it again"
        ) from error
    layers = {
        b"".join(layer.name).decode("utf-8", "backslashreplace"): layer.blobs
        for layer in (*net.layers, *net.layer)
        if layer.blobs
    }
    if not layers:
        raise CheckpointError(f"{shown} holds no layers with weights; it is no .caffemodel of a trained net")
    return layers


def _array(blob: Any, label: str) -> np.ndarray:
    """Return an array in its shape; Caffe's older form has four sides always."""
    data, dtype = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
    if blob.shape:
        shape = list(blob.shape[-1].dim)
    else:
        shape = [side[-1] if side else 0 for side in (blob.num, blob.channels, blob.height, blob.width)]
    try:
        if min(shape, default=0) < 0:
            raise ValueError("a negative side")
        return np.frombuffer(b"".join(data), dtype).reshape(shape)
    except ValueError as error:
        raise CheckpointError(
            f"{label} does not hold the {one_line(shape, 60)} numbers that it states; download the file again"
        ) from error


@cache
def _net_parameter() -> Any:
    """Return the class of the message that a file is, made of :data:`_FIELDS`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {"bytes": kinds.TYPE_BYTES, "int32": kinds.TYPE_INT32, "int64": kinds.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="weights.proto", package="caffe", syntax="proto2")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = message.field.add(name=field_name, number=number, label=kinds.LABEL_REPEATED)
            if kind in scalars:
                field.type = scalars[kind]
            else:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
