"""What passes between the front and a worker: messages of a JSON header and bytes, over a socket.

A message is two lengths (4 bytes each, big endian), the header and the body. Both ends are ours and of one
version: nothing here is meant for the world outside.
"""

import asyncio
import socket
import struct
from typing import Any

import orjson

_LENGTHS = struct.Struct(">II")

Header = dict[str, Any]


def packed(header: Header, body: bytes = b"") -> tuple[bytes, bytes]:
    """The bytes of a message: lengths and header, and the body as it is."""
    head = orjson.dumps(header)
    return _LENGTHS.pack(len(head), len(body)) + head, body


async def receive(reader: asyncio.StreamReader) -> tuple[Header, bytes]:
    """The next message. Raises EOFError where the other end is gone."""
    lengths = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    head, body = [await reader.readexactly(length) for length in lengths]
    return orjson.loads(head), body


def receive_blocking(connection: socket.socket) -> tuple[Header, bytes]:
    """The next message. Raises EOFError where the other end is gone."""
    lengths = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    head, body = [_exactly(connection, length) for length in lengths]
    return orjson.loads(head), bytes(body)


def _exactly(connection: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    view, filled = memoryview(data), 0
    while filled < count:
        received = connection.recv_into(view[filled:])
        if not received:
            raise EOFError("the other end closed the connection")
        filled += received
    return data
