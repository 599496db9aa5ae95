"""The application under uvicorn, from the first request to the last."""

import logging
import signal
import sys

import uvicorn

from api.app import create_app
from api.settings import Settings


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. 0: a clean end; 1: the weights or the port could not be used."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a malformed form is told to its sender
    failed = False

    def give_up() -> None:
        nonlocal failed
        failed = True
        server.should_exit = True

    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings, on_load_failure=give_up),
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )
    # Once drained, uvicorn raises the signal again: let it be a clean exit.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server.run()
    return 1 if failed or not server.started else 0
