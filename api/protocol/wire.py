"""Messages as bytes on the socket between the front and a worker.

A message is two lengths (4 bytes each, big endian), its fields as JSON, and its body as it is. Both ends are
ours and of one version: nothing here is meant for the world outside.
"""

import asyncio
import socket
import struct
from typing import Annotated

from pydantic import Field, TypeAdapter

from api.protocol.messages import FromWorker, ToWorker

_LENGTHS = struct.Struct(">II")
_TO_WORKER: TypeAdapter[ToWorker] = TypeAdapter(Annotated[ToWorker, Field(discriminator="op")])
_FROM_WORKER: TypeAdapter[FromWorker] = TypeAdapter(Annotated[FromWorker, Field(discriminator="op")])


def packed(message: ToWorker | FromWorker) -> tuple[bytes, bytes]:
    """Return the bytes of a message: lengths and fields, and the body, which is not copied."""
    adapter = _TO_WORKER if isinstance(message, ToWorker) else _FROM_WORKER
    head = adapter.dump_json(message)  # type: ignore[arg-type]
    return _LENGTHS.pack(len(head), len(message.body)) + head, message.body


async def receive(reader: asyncio.StreamReader) -> FromWorker:
    """Return the next message of a worker.

    Raises EOFError where the worker is gone, ValueError (pydantic's) for what is no message.
    """
    lengths = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    head, body = [await reader.readexactly(length) for length in lengths]
    message = _FROM_WORKER.validate_json(head)
    message.body = body
    return message


def receive_blocking(connection: socket.socket) -> ToWorker:
    """Return the next message of the front.

    Raises EOFError where the front is gone, ValueError (pydantic's) for what is no message.
    """
    lengths = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    head, body = [_exactly(connection, length) for length in lengths]
    message = _TO_WORKER.validate_json(head)
    message.body = bytes(body)
    return message


def _exactly(connection: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    view, filled = memoryview(data), 0
    while filled < count:
        received = connection.recv_into(view[filled:])
        if not received:
            raise EOFError("the other end closed the connection")
        filled += received
    return data
