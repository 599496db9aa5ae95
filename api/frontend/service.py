"""What the routes share: admission, the workers, and the way of a request between them."""

import asyncio
import difflib
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeVar

from fastapi import Request

from api.frontend.admission import Admission, Ticket
from api.frontend.auth import client_of
from api.frontend.errors import ClientDisconnected, about_to_end, not_ready
from api.frontend.settings import Settings
from api.frontend.shutdown import Shutdown, expire
from api.frontend.supervisor import Supervisor
from api.frontend.uploads.body import ExpectedBody, Upload, UploadLimits, Uploads
from api.frontend.uploads.reading import Requested, RequestReader
from api.frontend.uploads.remote import Fetcher
from api.observability.metrics import Metrics
from api.protocol.errors import ApiError
from api.protocol.messages import Answer, ClassifyTask, Task
from api.protocol.model_info import ModelInfo
from detector.options import CROP_COST

T = TypeVar("T")

TIMEOUT_HEADER = "X-Timeout-Ms"

_TILES_ESTIMATE = 10
"""An estimate of how often an image is looked at in tiles, whose size is not known before it was read."""


class Service:
    """One for the life of the app, at ``app.state.service``."""

    def __init__(self, settings: Settings, metrics: Metrics, shutdown: Shutdown) -> None:
        """Prepare everything; ``workers.start()`` starts it."""
        self.workers = Supervisor(
            settings.worker_settings,
            metrics,
            stall_seconds=settings.stall_seconds,
            start_seconds=settings.start_seconds,
        )
        self._settings = settings
        self._metrics = metrics
        self._shutdown = shutdown
        self._limits = UploadLimits(
            settings.max_bytes, settings.max_pictures, settings.max_pending_bytes // 2
        )
        self._keys = settings.keys
        self._admission = Admission(
            max_requests=settings.max_pending_requests,
            max_bytes=settings.max_pending_bytes,
            rate=lambda: self.workers.rate,
            metrics=metrics,
        )
        self._fetcher = (
            Fetcher(settings.max_bytes, settings.url_timeout_seconds) if settings.allow_urls else None
        )

    async def close(self) -> None:
        """End the workers at once."""
        await self.workers.close()
        if self._fetcher is not None:
            self._fetcher.close()

    def check_live(self) -> None:
        """Raise ApiError 503 if the service cannot be expected to recover without being started anew."""
        trouble = None if self._shutdown.unready else self.workers.trouble(self._settings.no_worker_seconds)
        if trouble is not None:
            raise ApiError(503, "not_live", f"{trouble}. The service has to be started again.")

    def check_ready(self) -> None:
        """Raise ApiError 503 unless the workers are warm and the service is not about to end."""
        if self._shutdown.unready:
            raise about_to_end()
        self.models()

    def models(self) -> list[ModelInfo]:
        """Return the models loaded, the default one first. Raises ApiError 503 until they are."""
        if not self.workers.ready:
            raise not_ready()
        return self.workers.models

    async def answer(
        self, request: Request, reader: RequestReader
    ) -> tuple[Uploads, list[Answer | ApiError]]:
        """Return the images of a request without their bytes, and the answer to each.

        Raises ApiError for what concerns the request as a whole, and ClientDisconnected.
        """
        if self._shutdown.draining:
            raise about_to_end()
        info = find_model(self.models(), reader.model)
        seconds = self._seconds(request)
        expected = reader.expect(request, self._limits)
        regions = _regions(reader.task, info)
        client = client_of(request, self._keys)
        with self._admission.admit(client, regions, expected.held, seconds) as ticket:
            request.state.log.update(model=info.name, regions=regions)
            with request.state.span.child("receive body"):
                requested = await self._read(request, reader, expected, ticket)
            uploads, task_of = requested.uploads, requested.task_of
            if requested.model != reader.model:
                info = find_model(self.models(), requested.model)
            regions = _regions(task_of(Upload(b"")), info)
            request.state.log.update(model=info.name, regions=regions)
            images = [upload for upload in uploads.items if upload.refusal is None]
            ticket.hold(sum(len(upload.data) for upload in images))
            ticket.start(regions * len(images))
            bodies = [upload.data for upload in uploads.items]
            uploads = uploads.without_data()
            del images, requested
            answers = await self._ask(request, info.name, uploads, bodies, task_of, ticket, regions)
        return uploads, answers

    def _seconds(self, request: Request) -> float:
        """Return how long the request may take."""
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

    async def _read(
        self, request: Request, reader: RequestReader, expected: ExpectedBody, ticket: Ticket
    ) -> Requested:
        """Return what a request asks. Raises ApiError 408 or 503 if they do not come in time."""
        try:
            async with asyncio.timeout(ticket.deadline - monotonic()) as limit:
                ticket.on_give_way = lambda: expire(limit)
                with self._shutdown.expiring(limit):
                    return await reader.read(request, expected, self._fetcher, ticket.receive)
        except TimeoutError as error:
            if self._shutdown.refusing.is_set():
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
        uploads: Uploads,
        bodies: list[bytes],
        task_of: Callable[[Upload], Task],
        ticket: Ticket,
        regions: int,
    ) -> list[Answer | ApiError]:
        """Return the answer to each image. ``bodies``, their bytes, is emptied: the worker has them then."""

        async def ask(number: int, upload: Upload) -> Answer | ApiError:
            if upload.refusal is not None:
                return upload.refusal
            data, bodies[number] = bodies[number], b""
            size = len(data)
            try:
                about = {"detector.picture": number, "detector.bytes": size}
                with request.state.span.child("picture", about) as span:
                    pending = self.workers.ask(model, task_of(upload), data, ticket, regions)
                    del data
                    answer = await pending
                    span.add_stages(answer.stages)
            except ApiError as error:
                return error
            finally:
                ticket.done(regions, size)
            self._metrics.stages(answer.timing_ms)
            return answer

        asking = asyncio.gather(*(ask(number, upload) for number, upload in enumerate(uploads.items)))
        return await self._while_client_waits(request, asking, ticket.deadline)

    async def _while_client_waits(self, request: Request, work: "asyncio.Future[T]", deadline: float) -> T:
        """Return the result of work, which is cancelled if the client disconnects, the deadline passes or the
        service ends. Raises ClientDisconnected, or ApiError 504 or 503."""
        disconnect = asyncio.ensure_future(_disconnect(request))
        refusing = asyncio.ensure_future(self._shutdown.refusing.wait())
        try:
            await asyncio.wait(
                (work, disconnect, refusing),
                timeout=max(0.0, deadline - monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                return work.result()
            if disconnect.done():
                raise ClientDisconnected
            if refusing.done():
                raise about_to_end()
            raise ApiError(
                504,
                "deadline_exceeded",
                f"There was no answer in time. Ask for more of it with {TIMEOUT_HEADER}, or for less work: "
                "profile=fast, fewer crops.",
            )
        finally:
            disconnect.cancel()
            refusing.cancel()
            if not work.done():
                work.add_done_callback(lambda done: done.cancelled() or done.exception())  # or it is logged
                work.cancel()


async def _disconnect(request: Request) -> None:
    """Return when the client has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _regions(task: Task, model: ModelInfo) -> int:
    """Return an estimate of what an image's task takes the device, in regions."""
    if isinstance(task, ClassifyTask):
        return task.crops * CROP_COST
    wanted = task.profile or model.default_profile
    for profile in model.profiles:
        if profile.name == wanted:
            looks = 1 if task.tile is None else _TILES_ESTIMATE
            return profile.cost * looks + task.explain * profile.region_cost
    return 1  # the worker refuses it


def find_model(models: Sequence[ModelInfo], name: str | None) -> ModelInfo:
    """Return the model of a name, the first for None. Raises ApiError 404 for one that is not loaded."""
    if name is None:
        return models[0]
    for info in models:
        if info.name == name:
            return info
    known = [info.name for info in models]
    near = difflib.get_close_matches(name, known, 1)
    advice = f"Did you mean {near[0]}?" if near else f"There is {', '.join(known)}."
    raise ApiError(404, "unknown_model", f"No model {name[:64]!r} is loaded. {advice}")
