"""Connections that send without end, never read, or do nothing."""

import asyncio
import contextlib
import io
import socket
import time
from collections.abc import Mapping

import httpx
import numpy as np
import psutil
from loadtest.client import request
from loadtest.processes import Server, service
from loadtest.trial import Trial
from PIL import Image

from attacks.bystander import ATTACKER, while_attacked

MIB = 2**20


def endless_heads(settings: Mapping[str, object], *, mebibytes: int = 64) -> Trial:
    """Send header lines without end: long ones, short ones, one that never ends."""
    trial = Trial("heads without end")
    starts = {
        "long lines": (b"GET /detect HTTP/1.1\r\nHost: x\r\n", b"X-A: " + b"a" * 8000 + b"\r\n"),
        "short lines": (b"GET /detect HTTP/1.1\r\nHost: x\r\n", b"a:b\r\n" * 2000),
        "one line": (b"GET /detect HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 10_000),
        "one path": (b"GET /", b"a" * 10_000),
        "empty lines": (b"", b"\r\n" * 5000),
        "a chunk's extension": (
            b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;",
            b"a" * 10_000,
        ),
        "trailers": (
            b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-A: " + b"a" * 8000 + b"\r\n",
        ),
    }
    with service(settings) as server:
        before = front_memory(server)
        for name, (start, block) in starts.items():
            sent = flood(server.port, start, block, mebibytes * MIB)
            trial.figures[name] = (
                f"refused after {sent / 1024:.0f} KiB" if sent < mebibytes * MIB else "taken"
            )
            trial.check(sent < 8 * MIB, f"{name}: {sent // MIB} MiB were taken")
        grown = front_memory(server) - before
        trial.figures["memory of the front"] = f"{grown / MIB:+.0f} MiB"
        trial.check(grown < 16 * MIB, "the front's memory grew")
        trial.check(server.get("/health/live").status_code == 200, "it is not live any more")
    return trial


def flood(port: int, start: bytes, block: bytes, most: int) -> int:
    """Send a block again and again; return the bytes sent when the server would take no more of it."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=3, source_address=(ATTACKER, 0)) as one:
        try:
            one.sendall(start)
            while sent < most:
                one.sendall(block)
                sent += len(block)
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    if not one.recv(65536):
                        break  # closed
                one.settimeout(3)
        except OSError:
            pass
    return sent


def unread_answers(settings: Mapping[str, object], *, count: int = 6, seconds: float = 120) -> Trial:
    """Ask for large drawn pictures and never read them."""
    trial = Trial(f"{count} large answers that nobody reads")
    image = noise(2500)
    message = request("/detect?format=image&profile=fast", image)

    async def attack(server: Server) -> None:
        before = front_memory(server)
        held = []
        for _ in range(count):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.bind((ATTACKER, 0))
            one.connect(("127.0.0.1", server.port))
            one.sendall(message)
            one.settimeout(60)
            await asyncio.to_thread(one.recv, 100)
            held.append(one)
        trial.figures["front, all held"] = f"{(front_memory(server) - before) / MIB:+.0f} MiB"
        started = time.monotonic()
        while connections(server, "ESTABLISHED") and time.monotonic() - started < seconds:
            await asyncio.sleep(1)
        left = connections(server, "ESTABLISHED")
        trial.figures["dropped"] = f"after {time.monotonic() - started:.0f} s, {left} are left"
        trial.check(not left, f"{left} clients are still waited for after {seconds:.0f} s")
        trial.figures["front, afterwards"] = f"{(front_memory(server) - before) / MIB:+.0f} MiB"
        for one in held:
            one.close()

    with service({**settings, "max_proposals": 1}) as server:
        asyncio.run(attack(server))
    return trial


def idle_connections(settings: Mapping[str, object], *, open_files: int = 128, seconds: float = 20) -> Trial:
    """Open more idle connections than the service may have files open; then kill its worker."""
    trial = Trial(f"{open_files + 50} idle connections, {open_files} file descriptors, a killed worker")

    async def attack(server: Server) -> None:
        held = []
        for _ in range(open_files + 50):
            one = socket.socket()
            one.settimeout(2)
            try:
                one.bind((ATTACKER, 0))
                one.connect(("127.0.0.1", server.port))
                one.sendall(b"G")
            except OSError:
                one.close()
                continue
            held.append(one)
        trial.figures["connected"] = str(len(held))
        server.workers()[0].kill()
        started = time.monotonic()
        while time.monotonic() - started < 120:
            with contextlib.suppress(httpx.TransportError):
                if server.get("/health/ready", timeout=2).status_code == 200 and server.workers():
                    break
            await asyncio.sleep(0.5)
        took = time.monotonic() - started
        trial.figures["ready again"] = f"after {took:.0f} s" if took < 120 else "never"
        trial.check(took < 120, "the worker was not replaced")
        if took < 120:
            await while_attacked(trial, server.port, seconds)
        for one in held:
            one.close()

    with service(settings, open_files=open_files) as server:
        asyncio.run(attack(server))
    return trial


def front_memory(server: Server) -> int:
    """Return the resident bytes of the front alone."""
    return int(psutil.Process(server.process.pid).memory_info().rss)


def connections(server: Server, status: str) -> int:
    """Count the front's connections from the attacker's address."""
    return sum(
        1
        for one in psutil.Process(server.process.pid).net_connections("tcp")
        if one.status == status and one.raddr and one.raddr.ip == ATTACKER
    )


def noise(side: int) -> bytes:
    """Return a JPEG that is small for its pixels and large once drawn as PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=10)
    return data.getvalue()
