"""The application under uvicorn, from its first request to its last."""

import asyncio
import logging
import signal
import socket
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from api.frontend.app import create_app
from api.frontend.connections.bounds import Bounds
from api.frontend.connections.http_protocol import BoundedHttp
from api.frontend.connections.listening import CannotListen, listening_sockets, shown
from api.frontend.connections.register import Register
from api.frontend.service import Service
from api.frontend.settings import Settings
from api.observability import logs

logger = logging.getLogger("api")

_LEAVING_SECONDS = 2
"""How long answers may still be sent once the time for requests is over."""

_REFUSING_SECONDS = 0.5
"""How long requests under way have to be refused when told a second time to end."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. 0: a clean end; 1: the weights or the port could not be used.

    SIGHUP switches to the weights files as they are by then.
    """
    logs.configure(settings.log_format, settings.log_level)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a malformed form is told to its sender
    failed = False

    def give_up() -> None:
        nonlocal failed
        failed = True
        server.should_exit = True

    try:
        sockets = listening_sockets(settings.host, settings.port)
    except CannotListen as error:
        logger.error("The service %s", error)
        return 1
    app = create_app(settings, on_load_failure=give_up)
    server = _Server(server_config(app, settings), settings)
    for listening in sockets:
        logger.info("Listening on %s", shown(listening))
    server.run(sockets)
    return 1 if failed or not server.started else 0


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the app: HTTP/1.1 alone, within the bounds of the settings."""
    register = Register(Bounds.of(settings), app.state.metrics)
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], partial(BoundedHttp, register=register)),
        ws="none",
        timeout_graceful_shutdown=settings.drain_seconds + _LEAVING_SECONDS,
        log_config=None,
        access_log=False,
    )


class _Server(uvicorn.Server):
    """Is unready before it ends, and switches weights when told to."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told_to_end = 0
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGHUP, self._switch)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unready at once, so that load balancers look elsewhere; after a delay, in which requests are still
        served, no more are taken and those under way are finished. Told again, it refuses them and ends."""
        self._told_to_end += 1
        if self._loop is None or self._told_to_end > 2:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._end if self._told_to_end == 1 else self._end_now)

    def _end(self) -> None:
        assert self._loop is not None
        logger.info("Told to end: not ready any more")
        if self._service is not None:
            self._service.ending = True
        self._loop.call_later(self._settings.shutdown_delay_seconds, self._drain)

    def _drain(self) -> None:
        if self._service is not None:
            self._service.drain(self._settings.drain_seconds)
        self.should_exit = True

    def _end_now(self) -> None:
        logger.info("Told again to end: what is under way is refused")
        if self._service is not None:
            self._service.drain(0)
        self.should_exit = True
        self._ending = asyncio.get_running_loop().create_task(self._cut_off())

    async def _cut_off(self) -> None:
        """End what is left of requests and connections, so that nothing is waited for."""
        await asyncio.sleep(_REFUSING_SECONDS)
        for task in tuple(self.server_state.tasks):
            task.cancel()
        await asyncio.sleep(0)
        for connection in tuple(self.server_state.connections):
            connection.transport.close()
        await asyncio.sleep(0.1)
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()

    def _switch(self) -> None:
        if self._told_to_end:
            logger.warning("SIGHUP: the service is about to end; the weights stay as they are")
        elif self._service is None:
            logger.info("SIGHUP: the weights are read later, as they are by then")
        else:
            self._service.pool.switch()

    @property
    def _service(self) -> Service | None:
        """The service, once the application has started."""
        return getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
