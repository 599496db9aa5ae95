"""A worker's process as the system knows it: started with a socket to this one, killed, reaped."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from detector.errors import DetectorError

COMMAND = (sys.executable, "-m", "api.worker")
"""What starts a worker's process."""


class WorkerFailed(DetectorError):
    """A worker could not be started: its models do not load, or it ended while it loaded them."""

    def __init__(self, message: str, *, reported_by_worker: bool = False) -> None:
        """``reported_by_worker``: the worker said so itself, so that another try would end the same way."""
        super().__init__(message)
        self.reported_by_worker = reported_by_worker


_ARENAS = "2"
"""Pools of memory of the C library in a worker: of more, one for each of dozens of threads, each keeps for
itself what a picture once took."""


class WorkerProcess:
    """One process, from its start to its end."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """``command`` gets ``--fd N`` appended, N being the socket by which the process speaks to this
        one."""
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._killed: str | None = None

    @property
    def pid(self) -> int | None:
        """Return the process's id; None before it is started."""
        return None if self._process is None else self._process.pid

    def start(self) -> socket.socket:
        """Start it; return this end of the socket. Raises WorkerFailed if it was killed before."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                if self._killed:
                    raise WorkerFailed(self._killed)
                # Not asyncio's own subprocesses: these learn of an end by a signal, which is easily lost
                # where several loops run; here the end of the socket tells. PYTHONSAFEPATH keeps files of
                # the current folder that are named like a module from being imported, here and in its own
                # children.
                self._process = subprocess.Popen(
                    [*self._command, "--fd", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={"MALLOC_ARENA_MAX": _ARENAS, **os.environ, "PYTHONSAFEPATH": "1"},
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the front, which lets requests under way finish
                )
        except BaseException:
            ours.close()
            raise
        return ours

    @property
    def has_exited(self) -> bool:
        """Whether it has ended, reaped or not."""
        if self._process is None:
            return False
        try:
            exited = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # it is reaped; also by the system, where SIGCHLD is ignored
            return True
        return exited is not None

    def kill(self, why: str | None = None) -> None:
        """End it at once, and whatever processes it started. ``why`` is told of one that is not ready yet."""
        self._killed = self._killed or why or "it was not needed any more"
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def reap(self, device: str) -> str:
        """Wait for its end; return why it ended, in words about the worker for ``device``.

        Polls: a thread or a descriptor to wait by may be what the machine is short of.
        """
        killed, pause = self._killed, 0.005
        self.kill()
        while self._process is not None and self._process.poll() is None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.25)
        if killed or self._process is None:
            return killed or "it was never started"
        status = self._process.returncode
        if status >= 0:
            return f"the worker for {device} ended with status {status}; its last words stand above"
        name = signal.strsignal(-status) or f"signal {-status}"
        return (
            f"the worker for {device} was ended from outside ({name}); where nobody did that, memory is short"
        )
