"""Bodies as large as are let in: what they take of the front's memory and time."""

import asyncio
import base64
import os
import socket
import threading
import time
from collections.abc import Mapping

import httpx
from loadtest.client import form
from loadtest.processes import Server, service
from loadtest.trial import Trial

from attacks.bystander import ATTACKER
from attacks.connections import MIB, front_memory

PENDING = 512 * MIB
"""What DETECTOR_MAX_PENDING_BYTES is unless set."""
IMAGES = 16


def bodies(settings: Mapping[str, object]) -> Trial:
    """Send sixteen files of 32 MiB in a form, in JSON, and in three requests at once."""
    trial = Trial(f"bodies of {IMAGES} x 32 MiB")
    blob = os.urandom(32 * MIB - 1000)
    text = base64.b64encode(blob)
    form_body, form_type = form(dict.fromkeys((f"{number}.jpg" for number in range(IMAGES)), blob))
    json_body = b'{"images":[' + b",".join([b'"' + text + b'"'] * IMAGES) + b"]}"
    for name, body, kind, copies in (
        ("form", form_body, form_type, 1),
        ("JSON", json_body, "application/json", 1),
        ("three forms at once", form_body, form_type, 3),
    ):
        with service(settings) as server:
            watch(trial, server, name, body, kind, copies)
    return trial


def watch(trial: Trial, server: Server, name: str, body: bytes, kind: str, copies: int) -> None:
    """Send a body so often at once; note the front's peak of memory and its slowest sign of life."""
    idle, peak, slowest = front_memory(server), 0, 0.0
    done = threading.Event()

    def look() -> None:
        nonlocal peak, slowest
        while not done.is_set():
            peak = max(peak, front_memory(server))
            started = time.monotonic()
            try:
                server.get("/health/live", timeout=60)
            except httpx.TransportError:
                trial.wrong.append(f"{name}: no sign of life")
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.02)

    looking = threading.Thread(target=look)
    looking.start()
    statuses = asyncio.run(_send(server.port, body, kind, copies))
    done.set()
    looking.join()
    trial.figures[name] = (
        f"{', '.join(statuses)}; front {(peak - idle) / MIB:+.0f} MiB at most, "
        f"slowest sign of life {slowest * 1e3:.0f} ms"
    )
    trial.check(peak - idle < PENDING * 1.25, f"{name}: the front took {(peak - idle) / MIB:.0f} MiB")
    trial.check(slowest < 2, f"{name}: no sign of life for {slowest:.1f} s")


async def _send(port: int, body: bytes, kind: str, copies: int) -> list[str]:
    return list(await asyncio.gather(*(asyncio.to_thread(_post, port, body, kind) for _ in range(copies))))


def _post(port: int, body: bytes, kind: str) -> str:
    """Send a request in pieces, as a client does who reads a refusal while sending; return the status."""
    head = (
        f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "X-Timeout-Ms: 120000\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=120, source_address=(ATTACKER, 0)) as one:
        try:
            one.sendall(head.encode())
            view = memoryview(body)
            for at in range(0, len(view), MIB):
                one.sendall(view[at : at + MIB])
        except OSError:
            pass  # refused while it was sent: the answer is there
        try:
            line = one.recv(64)
        except OSError as error:
            return type(error).__name__
    return line.split(b" ")[1].decode() if line.startswith(b"HTTP/1.1 ") else "closed"
