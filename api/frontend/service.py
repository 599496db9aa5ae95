"""What the routes share: admission, the workers, and the way of a request between them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, TypeVar

from fastapi import Request

from api.frontend.admission import Admission, Ticket
from api.frontend.clients import client_of
from api.frontend.errors import ApiError, ClientLeft, about_to_end, not_ready
from api.frontend.models import unknown_model
from api.frontend.pool import Pool
from api.frontend.settings import Settings
from api.frontend.uploads.reading import (
    Upload,
    UploadLimits,
    Uploads,
    check_headers,
    declared_bytes,
    read_uploads,
)
from api.frontend.uploads.remote import Fetcher
from api.frontend.worker_client import Answer
from api.observability.metrics import Metrics
from api.protocol.messages import ClassifyTask, Task
from api.worker.settings import worker_settings

T = TypeVar("T")

TIMEOUT_HEADER = "X-Timeout-Ms"

_EVERY_BOX = 800
"""An estimate of the regions of a picture where the profile keeps all there are (``paper``)."""

_FAREWELL = 0.5
"""Seconds before the end at which what is not done is refused, so that the refusals still get out."""

_BESIDES = 2
"""Rows of a picture besides its proposals: MultiBox's look at it, and the context's."""


class Service:
    """One for the life of the app, at ``app.state.service``."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Nothing is started yet: :meth:`start` does."""
        self.pool = Pool(
            lambda: worker_settings(settings),
            metrics,
            stall_seconds=settings.stall_seconds,
            start_seconds=settings.start_seconds,
            no_worker_seconds=settings.no_worker_seconds,
        )
        self.ending = False
        """Whether load balancers should ask elsewhere; requests are served all the same."""
        self._draining = False
        self._last_call = asyncio.Event()
        self._reading: set[asyncio.Timeout] = set()
        self._settings = settings
        self._metrics = metrics
        self._limits = UploadLimits(
            settings.max_bytes, settings.max_pictures, settings.max_pending_bytes // 2
        )
        self._keys = settings.keys
        self._admission = Admission(
            max_requests=settings.max_pending_requests,
            max_bytes=settings.max_pending_bytes,
            rate=lambda: self.pool.rate,
            metrics=metrics,
        )
        self._fetcher = (
            Fetcher(settings.max_bytes, settings.url_timeout_seconds) if settings.allow_urls else None
        )

    def drain(self, seconds: float) -> None:
        """Take no more requests. Those under way have so long; what is not done by then is refused."""
        self.ending = self._draining = True
        asyncio.get_running_loop().call_later(max(0.0, seconds - _FAREWELL), self._refuse_the_rest)

    def _refuse_the_rest(self) -> None:
        self._last_call.set()
        for limit in self._reading:
            _expire(limit)

    async def close(self) -> None:
        """End the workers at once."""
        await self.pool.close()
        if self._fetcher is not None:
            self._fetcher.close()

    def check_live(self) -> None:
        """Raises ApiError 503 if the service cannot be expected to recover without being started anew."""
        trouble = None if self.ending else self.pool.trouble
        if trouble is not None:
            raise ApiError(503, "not_live", f"{trouble}. The service has to be started again.")

    def check_ready(self) -> None:
        """Raises ApiError 503 unless the workers are warm and the service is not about to end."""
        if self.ending:
            raise about_to_end()
        self._check_serving()

    def _check_serving(self) -> None:
        if self._draining:
            raise about_to_end()
        if not self.pool.ready:
            raise not_ready()

    def models(self) -> list[dict[str, Any]]:
        """The models loaded, the default one first. Raises ApiError 503 until they are."""
        if not self.pool.ready:
            raise not_ready()
        return self.pool.models

    async def answer(
        self, request: Request, model: str | None, task_of: Callable[[Upload], Task]
    ) -> tuple[Uploads, list[Answer | ApiError]]:
        """The pictures of a request, and what is to be said of each.

        ``task_of`` makes the task of a picture. Raises ApiError for what concerns the request as a whole, and
        ClientLeft.
        """
        self._check_serving()
        described = self._model(model)
        seconds = self._seconds(request)
        check_headers(request, self._limits)
        regions = _regions(task_of(Upload(b"")), described)
        size = declared_bytes(request, self._limits)
        client = client_of(request, self._keys)
        with self._admission.admit(client, regions, size, seconds) as ticket:
            request.state.log.update(model=described["name"], regions=regions)
            uploads = await self._read(request, ticket)
            images = [upload for upload in uploads.items if upload.refusal is None]
            ticket.hold(sum(len(upload.data) for upload in images))
            ticket.start(regions * len(images))
            bodies = [upload.data for upload in uploads.items]
            uploads = replace(uploads, items=tuple(replace(one, data=b"") for one in uploads.items))
            del images
            answers = await self._ask(
                request, described["name"], uploads.items, bodies, task_of, ticket, regions
            )
        return uploads, answers

    def _model(self, name: str | None) -> dict[str, Any]:
        models = self.models()
        if name is None:
            return models[0]
        for model in models:
            if model["name"] == name:
                return model
        raise unknown_model(name, [model["name"] for model in models])

    def _seconds(self, request: Request) -> float:
        """How long the request may take."""
        text = request.headers.get(TIMEOUT_HEADER)
        if text is None:
            return self._settings.timeout_seconds
        most = self._settings.max_timeout_seconds
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= most * 1000):
            raise ApiError(
                422,
                "invalid_parameter",
                f"{TIMEOUT_HEADER}: must be a whole number of milliseconds from 1 to {most * 1000:.0f}.",
            )
        return int(text) / 1000

    async def _read(self, request: Request, ticket: Ticket) -> Uploads:
        try:
            async with asyncio.timeout(ticket.deadline - monotonic()) as limit:
                ticket.on_give_way = lambda: _expire(limit)
                self._reading.add(limit)
                try:
                    return await read_uploads(request, self._limits, self._fetcher, ticket.receive)
                finally:
                    self._reading.remove(limit)
        except TimeoutError as error:
            if self._last_call.is_set():
                raise about_to_end() from error
            if ticket.gave_way:
                raise ApiError(
                    408,
                    "slow_body",
                    "The request came so slowly that it had to make room for others. Send it faster.",
                    {"Retry-After": "1"},
                ) from error
            raise ApiError(
                408,
                "slow_body",
                f"The request was not all here when its time was over. Send it faster, or ask for more time "
                f"with {TIMEOUT_HEADER}.",
            ) from error

    async def _ask(
        self,
        request: Request,
        model: str,
        uploads: Sequence[Upload],
        bodies: list[bytes],
        task_of: Callable[[Upload], Task],
        ticket: Ticket,
        regions: int,
    ) -> list[Answer | ApiError]:
        """What becomes of each picture. ``bodies``, their bytes, is emptied: the worker has them then."""

        async def one(number: int, upload: Upload) -> Answer | ApiError:
            if upload.refusal is not None:
                return upload.refusal
            data, bodies[number] = bodies[number], b""
            size = len(data)
            try:
                asked = self.pool.ask(model, task_of(upload), data, ticket, regions)
                del data
                answer = await asked
            except ApiError as error:
                return error
            finally:
                ticket.done(regions, size)
            self._metrics.stages(answer.timing_ms)
            return answer

        asking = asyncio.gather(*(one(number, upload) for number, upload in enumerate(uploads)))
        return await self._while_client_waits(request, asking, ticket.deadline)

    async def _while_client_waits(self, request: Request, work: "asyncio.Future[T]", deadline: float) -> T:
        """The result of work, which is cancelled if the client leaves, the deadline passes or the service
        ends. Raises ClientLeft, or ApiError 504 or 503."""
        leaving = asyncio.ensure_future(_left(request))
        ending = asyncio.ensure_future(self._last_call.wait())
        try:
            await asyncio.wait(
                (work, leaving, ending),
                timeout=max(0.0, deadline - monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                return work.result()
            if leaving.done():
                raise ClientLeft
            if ending.done():
                raise about_to_end()
            raise ApiError(
                504,
                "deadline_exceeded",
                f"There was no answer in time. Ask for more of it with {TIMEOUT_HEADER}, or for less work "
                "with profile=fast.",
            )
        finally:
            leaving.cancel()
            ending.cancel()
            if not work.done():
                work.add_done_callback(lambda done: done.cancelled() or done.exception())  # or it is logged
                work.cancel()


def _expire(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())


async def _left(request: Request) -> None:
    """Returns when the client has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _regions(task: Task, model: dict[str, Any]) -> int:
    """An estimate of the rows that a picture's task gives the device."""
    if isinstance(task, ClassifyTask):
        return task.crops
    wanted = task.profile or model["default_profile"]
    for profile in model["profiles"]:
        if profile["name"] == wanted:
            return (profile["max_regions"] or _EVERY_BOX) + _BESIDES
    return _BESIDES  # the worker refuses it
