"""Servers as processes of their own: started, waited for, watched, ended."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
WORKER = "api.worker"
"""What the command line of a process that owns a device says."""


@dataclass(frozen=True)
class Server:
    """A server that answered once: its process and its port."""

    process: subprocess.Popen[bytes]
    port: int

    def get(self, path: str, timeout: float = 10) -> httpx.Response:
        """Ask with GET, over a connection of its own. Raises httpx.TransportError if none comes."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=timeout, trust_env=False)

    def workers(self) -> list[psutil.Process]:
        """Return the processes that own a device."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if any(WORKER in word for word in _command(child))]

    def memory(self) -> int:
        """Return the resident bytes of the server and every process it started."""
        front = psutil.Process(self.process.pid)
        return sum(_resident(process) for process in [front, *front.children(recursive=True)])


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    ready: str,
    *,
    seconds: float = 300,
    open_files: int | None = None,
) -> Iterator[Server]:
    """Run a server that listens on ``$DETECTOR_PORT`` of loopback and answers 200 at ``ready``; ended
    afterwards, with every process it started. ``open_files``: the most file descriptors that it may have.

    Raises SystemExit with the end of its log if it does not become ready.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended by SIGTERM"))  # and so end the server
    port = free_port()
    if open_files is not None:
        command = ["prlimit", f"--nofile={open_files}", *command]  # it becomes the command: one process
    with tempfile.TemporaryFile() as log:
        deadline = time.monotonic() + seconds
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**_without_settings(), **environment, "DETECTOR_PORT": str(port)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, port, ready, deadline, log)
            yield Server(process, port)
        finally:
            end_process(process)


def service(
    settings: Mapping[str, object], *, seconds: float = 300, open_files: int | None = None
) -> AbstractContextManager[Server]:
    """Run this project's service with settings by name; those that are None keep their default."""
    environment = {
        f"DETECTOR_{name.upper()}": str(value) for name, value in settings.items() if value is not None
    }
    command = [sys.executable, "-P", "-m", "api"]
    return running(command, environment, "/health/ready", seconds=seconds, open_files=open_files)


class MemoryWatch:
    """Samples a server's memory each second, from a thread."""

    def __init__(self, server: Server) -> None:
        self.samples: list[tuple[float, int]] = []
        """Seconds since the start, and bytes."""
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        start = time.monotonic()
        while not self._done.wait(1):
            self.samples.append((time.monotonic() - start, self._server.memory()))


def _wait(process: subprocess.Popen[bytes], port: int, path: str, deadline: float, log: IO[bytes]) -> None:
    while time.monotonic() < deadline and process.poll() is None:
        try:
            reply = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5, trust_env=False)
        except httpx.TransportError:
            pass
        else:
            if reply.status_code == 200:
                return
        time.sleep(0.1)
    log.seek(0)
    said = log.read().decode(errors="replace")[-2000:]
    raise SystemExit(f"error: the server did not become ready at {path}. It said:\n{said}")


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and SIGKILL for what is still there ten seconds later."""
    if process.poll() is not None:
        return
    front = psutil.Process(process.pid)
    family = [front, *front.children(recursive=True)]
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family[1:], timeout=5)
    for child in alive:
        child.kill()


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0
