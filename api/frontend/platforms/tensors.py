"""Tensors of the Open Inference Protocol: read from JSON or from what follows it, and written so.

Binary tensors (Triton's "binary tensor data extension"): the body is JSON of as many bytes as the header
``Inference-Header-Content-Length`` says, and then the data of those tensors whose parameters have a
``binary_data_size``, in their order: numbers little-endian, and of BYTES each element behind its length (4
bytes).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import orjson

from api.protocol.errors import ApiError

_FORMATS = {"FP32": "f", "INT64": "q"}
_LENGTH = struct.Struct("<I")
_MOST_AXES = 8


@dataclass(frozen=True)
class InputTensor:
    """An input as it was sent: ``data`` is its bytes, or what its JSON holds, a list that may be nested."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: memoryview | list[Any]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    def elements(self) -> list[memoryview | str]:
        """Return the elements of a tensor of BYTES: bytes of a binary one, texts of JSON.

        Raises ApiError 400 if they are not as many as the shape says.
        """
        found: list[memoryview | str] = []
        values = _split(self.data, self.name) if isinstance(self.data, memoryview) else _flat(self.data)
        for value in values:
            if not isinstance(value, str | memoryview):
                raise malformed_tensors(f"an element of {self.name!r} is no text")
            found.append(value)
            if len(found) > self.size:
                break
        if len(found) != self.size:
            raise malformed_tensors(
                f"{self.name!r} has {'more' if len(found) > self.size else 'fewer'} elements than its shape "
                f"{list(self.shape)} says"
            )
        return found


@dataclass(frozen=True)
class OutputTensor:
    """An output: its elements, one after the other, whatever its shape."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]

    def as_bytes(self) -> bytes:
        """Return the elements in the binary form."""
        if self.datatype == "BYTES":
            encoded = [text.encode() for text in self.data]
            return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))
        return struct.pack(f"<{len(self.data)}{_FORMATS[self.datatype]}", *self.data)

    def about(self) -> dict[str, Any]:
        """Return all of it but its data, as JSON has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def malformed_tensors(problem: str) -> ApiError:
    """Return the refusal of a body that is no request of the protocol."""
    return ApiError(400, "malformed_tensors", f"The inference request cannot be used: {problem}.")


def input_tensors(content: dict[str, Any], binary: memoryview) -> list[InputTensor]:
    """Return the inputs of a request's JSON; ``binary`` is what follows it, and none of that may be left.

    Raises ApiError 400 ``malformed_tensors``.
    """
    given = content.get("inputs")
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise malformed_tensors("'inputs' is no list of tensors")
    tensors, start = [], 0
    for item in given:
        name, datatype = item.get("name"), item.get("datatype")
        if not isinstance(name, str) or not isinstance(datatype, str):
            raise malformed_tensors("an input lacks its name or its datatype")
        shape = _shape(item.get("shape"), name)
        size = _parameters(item).get("binary_data_size")
        if size is None:
            data = item.get("data")
            if not isinstance(data, list):
                raise malformed_tensors(f"{name!r} has neither a list 'data' nor a 'binary_data_size'")
            tensors.append(InputTensor(name, shape, datatype, data))
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - start:
            raise malformed_tensors(
                f"the 'binary_data_size' of {name!r} is not a number of bytes that follow the JSON"
            )
        tensors.append(InputTensor(name, shape, datatype, binary[start : start + size]))
        start += size
    if start != len(binary):
        raise malformed_tensors(f"{len(binary) - start} bytes follow that belong to no input")
    return tensors


def wants_binary(item: dict[str, Any], default: bool) -> bool:
    """Return whether an output is asked for in the binary form."""
    return bool(_parameters(item).get("binary_data", default))


def inference_reply(
    about: dict[str, Any], outputs: Sequence[tuple[OutputTensor, bool]]
) -> tuple[bytes, int | None]:
    """Return the body of a reply and the length of its JSON, None if nothing follows that. Each output comes
    with whether it is wanted in the binary form."""
    listed, parts = [], []
    for output, binary in outputs:
        if binary:
            parts.append(output.as_bytes())
            listed.append({**output.about(), "parameters": {"binary_data_size": len(parts[-1])}})
        else:
            listed.append({**output.about(), "data": output.data})
    head = orjson.dumps({**about, "outputs": listed})
    return b"".join((head, *parts)), len(head) if parts else None


def picture_of_pixels(pixels: memoryview, width: int, height: int) -> bytes:
    """Return rows of RGB pixels, a byte a channel, as a TIFF without compression: 8 fields before the pixels.

    Source: TIFF 6.0, section 6 (RGB full-color images).
    """
    # tag, type (3: 16 bits, 4: 32 bits), count, value; ascending
    fields = (
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, _TIFF_HEAD - 6),  # bits a sample: three numbers, which lie behind the fields
        (259, 3, 1, 1),  # no compression
        (262, 3, 1, 2),  # RGB
        (273, 4, 1, _TIFF_HEAD),  # where the pixels begin
        (277, 3, 1, 3),  # samples a pixel
        (278, 4, 1, height),  # rows of the one strip
        (279, 4, 1, len(pixels)),
        (284, 3, 1, 1),  # samples of a pixel together
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(fields))
    head += b"".join(struct.pack("<HHII", *values) for values in fields)
    head += struct.pack("<IHHH", 0, 8, 8, 8)
    return b"".join((head, pixels))


_TIFF_HEAD = 10 + 10 * 12 + 4 + 6
"""Bytes before the pixels: the header, the fields, the end of their list, and the bits of each sample."""


def _parameters(item: dict[str, Any]) -> dict[str, Any]:
    parameters = item.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _shape(value: object, name: str) -> tuple[int, ...]:
    """Return a shape. Raises ApiError 400 for what is none."""
    if (
        not isinstance(value, list)
        or not 0 < len(value) <= _MOST_AXES
        or not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in value)
    ):
        raise malformed_tensors(f"the shape of {name!r} is no list of numbers")
    return tuple(value)


def _split(data: memoryview, name: str) -> Iterator[memoryview]:
    """Yield the elements of a binary tensor of BYTES. Raises ApiError 400 where they end within one."""
    start = 0
    while start < len(data):
        end = start + _LENGTH.size
        if end <= len(data):
            start, end = end, end + _LENGTH.unpack(data[start:end])[0]
        if end > len(data):
            raise malformed_tensors(f"the data of {name!r} end within an element")
        yield data[start:end]
        start = end


def _flat(data: list[Any], depth: int = 0) -> Iterator[Any]:
    """Yield the elements of a list that may be nested. Raises ApiError 400 if it is, too deeply."""
    if depth == _MOST_AXES:
        raise malformed_tensors("the data are nested too deeply")
    for item in data:
        if isinstance(item, list):
            yield from _flat(item, depth + 1)
        else:
            yield item
