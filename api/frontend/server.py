"""The application under uvicorn: its sockets, its bounds and the signals that it is sent."""

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
from api.frontend.connections.http_protocol import BoundedHttp
from api.frontend.connections.listening import CannotListen, listening_sockets, shown
from api.frontend.connections.open_connections import Bounds, OpenConnections
from api.frontend.service import Service
from api.frontend.settings import Settings
from api.frontend.shutdown import SENDING_SECONDS, Shutdown
from api.observability import logs

logger = logging.getLogger("api")


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
        sockets = listening_sockets(settings.host, settings.listening_port)
    except CannotListen as error:
        logger.error("The service %s", error)
        return 1
    app = create_app(settings, on_load_failure=give_up)
    server = _Server(server_config(app, settings))
    for listening in sockets:
        logger.info("Listening on %s", shown(listening))
    server.run(sockets)
    return 1 if failed or not server.started else 0


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves the app: HTTP/1.1 alone, within the bounds of the settings."""
    register = OpenConnections(Bounds.of(settings), app.state.metrics)
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], partial(BoundedHttp, register=register)),
        ws="none",
        timeout_graceful_shutdown=settings.drain_seconds + SENDING_SECONDS,
        log_config=None,
        access_log=False,
    )


class _Server(uvicorn.Server):
    """Ends as :mod:`api.frontend.shutdown` says, and switches weights when told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shutdown: Shutdown = config.app.state.shutdown  # type: ignore[union-attr]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen to SIGHUP, and start as uvicorn does."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGHUP, self._switch)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the next step to the end: a signal has come."""
        self._shutdown.signal(self, self._loop)

    def _switch(self) -> None:
        service: Service | None = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
        if self._shutdown.begun:
            logger.warning("SIGHUP: the service is about to end; the weights stay as they are")
        elif service is None:
            logger.info("SIGHUP: the weights are read later, as they are by then")
        else:
            service.workers.switch()
