"""The end of the service, from the first signal to the last connection.

1. SIGTERM or SIGINT: ``/health/ready`` fails, so that load balancers look elsewhere; requests are still
   served for ``shutdown_delay_seconds``.
2. After that no request is admitted any more, uvicorn closes its sockets, and requests under way have
   ``drain_seconds``.
3. Half a second before these are over, what is not done is refused with 503 ``draining``: bodies that are
   still coming and answers that are waited for.
4. uvicorn cancels what even then is under way. A request whose answer has not begun is refused all the same
   (:func:`refuse_cancelled`), the connection of any other is cut (:func:`cut_when_cancelled`). Then the
   workers are ended.

A second signal goes to step 3 at once and cuts all connections half a second later; a third ends the process
without further ado.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.frontend.errors import about_to_end, error_reply

logger = logging.getLogger("api")

SENDING_SECONDS = 2
"""How long answers may still be sent once the time for requests is over."""

_REFUSAL_SECONDS = 0.5
"""How long before the end the rest is refused, so that the refusals still get out."""


class Shutdown:
    """Where the service stands on its way to the end."""

    def __init__(self, delay_seconds: float, drain_seconds: float) -> None:
        self.unready = False
        """Whether load balancers should ask elsewhere; requests are served all the same."""
        self.draining = False
        """Whether no request is admitted any more."""
        self.refusing = asyncio.Event()
        """Set when what is not done is refused."""
        self._delay_seconds, self._drain_seconds = delay_seconds, drain_seconds
        self._timeouts: set[asyncio.Timeout] = set()
        self._signals = 0
        self._cutting: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether a signal to end has come."""
        return self._signals > 0

    def signal(self, server: uvicorn.Server, loop: asyncio.AbstractEventLoop | None) -> None:
        """Go on to the next step, in a handler of a signal; ``loop`` is the server's, None before it runs."""
        self._signals += 1
        if loop is None or self._signals > 2:
            server.should_exit = server.force_exit = True
        else:
            loop.call_soon_threadsafe(self._begin if self._signals == 1 else self._hurry, server)

    @contextmanager
    def expiring(self, timeout: asyncio.Timeout) -> Iterator[None]:
        """Let a timeout expire early, if the time to refuse comes while this context lasts."""
        self._timeouts.add(timeout)
        try:
            yield
        finally:
            self._timeouts.discard(timeout)

    def _begin(self, server: uvicorn.Server) -> None:
        logger.info("Told to end: not ready any more")
        self.unready = True
        asyncio.get_running_loop().call_later(self._delay_seconds, self._drain, server, self._drain_seconds)

    def _drain(self, server: uvicorn.Server, seconds: float) -> None:
        self.unready = self.draining = server.should_exit = True
        asyncio.get_running_loop().call_later(max(0.0, seconds - _REFUSAL_SECONDS), self._refuse)

    def _refuse(self) -> None:
        self.refusing.set()
        for timeout in self._timeouts:
            expire(timeout)

    def _hurry(self, server: uvicorn.Server) -> None:
        logger.info("Told again to end: what is under way is refused")
        self._drain(server, 0)
        self._cutting = asyncio.get_running_loop().create_task(_cut_connections(server))


def expire(timeout: asyncio.Timeout) -> None:
    """Let a timeout expire now, unless it has."""
    if not timeout.expired():
        timeout.reschedule(asyncio.get_running_loop().time())


async def _cut_connections(server: uvicorn.Server) -> None:
    """End what is left of requests and connections, so that nothing is waited for."""
    await asyncio.sleep(_REFUSAL_SECONDS)
    for task in tuple(server.server_state.tasks):
        task.cancel()
    await asyncio.sleep(0)
    for connection in tuple(server.server_state.connections):
        connection.transport.close()
    await asyncio.sleep(0.1)
    for connection in tuple(server.server_state.connections):
        connection.transport.abort()


def refuse_cancelled(app: ASGIApp) -> ASGIApp:
    """Have requests answered that are cancelled before their answer has begun, with 503 ``draining``."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noting_the_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await app(scope, receive, send_noting_the_start)
        except asyncio.CancelledError:
            if started or scope["type"] != "http":
                raise
            refusal = about_to_end()
            scope.setdefault("state", {})["error_code"] = refusal.code
            reply = error_reply(refusal.status, refusal.code, str(refusal), refusal.headers)
            await reply(scope, receive, send)

    return serve


def cut_when_cancelled(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """Have the connection cut where a request is cancelled amid its answer, which tells the client.

    uvicorn would also log a traceback.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            cycle.disconnected = True
            cycle.transport.abort()

    return serve
