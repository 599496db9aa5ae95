"""The service as an ASGI application."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from api.frontend import monitoring, pages, routes
from api.frontend.auth import RequireKey
from api.frontend.errors import install_error_handlers
from api.frontend.middleware import POLLED, WORK, HeadAsGet, RequestObserver
from api.frontend.openapi import DESCRIPTION, UNAUTHORIZED
from api.frontend.platforms import label_studio, open_inference, sagemaker, vertex
from api.frontend.platforms.names import PlatformName, VertexRoutes
from api.frontend.platforms.platform import Platform
from api.frontend.service import Service
from api.frontend.settings import Settings
from api.frontend.shutdown import Shutdown, refuse_cancelled
from api.frontend.worker_subprocess import WorkerFailed
from api.observability.metrics import Metrics
from api.observability.tracing import open_tracing

logger = logging.getLogger("api")


def create_app(
    settings: Settings | None = None, on_load_failure: Callable[[], None] | None = None
) -> FastAPI:
    """Return the application; settings come from the environment unless given.

    It answers at once and starts its workers meanwhile: /health/ready tells when they are ready. Should their
    weights not load, that is logged, ``on_load_failure`` is called, and the service stays unready.
    """
    settings = settings or Settings()
    metrics = Metrics()
    tracing = open_tracing(settings.otlp_endpoint)
    shutdown = Shutdown(settings.shutdown_delay_seconds, settings.drain_seconds)
    platforms = open_platforms(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(settings, metrics, shutdown)
        app.state.service = service
        loading = asyncio.create_task(_load(service, on_load_failure))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await service.close()
            for platform in platforms:
                platform.close()
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="GoogLeNet detector",
        description=DESCRIPTION,
        version=version("googlenet-detector"),
        lifespan=lifespan,
        docs_url=None,  # ours needs no internet
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own spans state the query, which may hold a key; ours are begun by RequestObserver.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    keys = settings.keys
    if keys:
        app.include_router(routes.router, dependencies=[Depends(RequireKey(keys))], responses=UNAUTHORIZED)
    else:
        app.include_router(routes.router)
    for platform in platforms:
        guard = [Depends(RequireKey(keys, as_password=platform.keys_as_password))] if keys else []
        app.include_router(platform.keyed, dependencies=guard)
        app.include_router(platform.open)
    for part in (monitoring, pages):  # open, with keys or without
        app.include_router(part.router)
    install_error_handlers(app)
    app.state.metrics = metrics
    app.state.shutdown = shutdown
    stack: ASGIApp = HeadAsGet(app.build_middleware_stack())
    if settings.cors_origins:
        stack = _shared_with(settings.cors_origins, stack)
    app.middleware_stack = RequestObserver(
        refuse_cancelled(stack),
        metrics,
        tracing,
        work={*WORK, *(path for platform in platforms for path in platform.work)},
        polled={*POLLED, *(path for platform in platforms for path in platform.polled)},
    )
    return app


def open_platforms(settings: Settings) -> list[Platform]:
    """Return the platforms that are served."""
    makers: dict[PlatformName, Callable[[], Platform]] = {
        PlatformName.OPEN_INFERENCE: open_inference.platform,
        PlatformName.SAGEMAKER: sagemaker.platform,
        PlatformName.VERTEX: lambda: vertex.platform(VertexRoutes.of(os.environ)),
        PlatformName.LABEL_STUDIO: lambda: label_studio.platform(settings),
    }
    return [makers[name]() for name in settings.platforms]


def _shared_with(origins: Sequence[str], app: ASGIApp) -> ASGIApp:
    """Return the app for pages of other origins too. This goes around the whole of it, so that pages can read
    errors as well.

    No cookie means anything here, so browsers are not asked for credentials; a key travels in a header.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        expose_headers=("X-Request-Id", "X-API-Version", "Retry-After", "WWW-Authenticate"),
    )


async def _load(service: Service, on_failure: Callable[[], None] | None) -> None:
    try:
        await service.workers.start()
    except WorkerFailed as error:
        logger.error("The service cannot start: %s", error)
    except Exception:
        logger.exception("Starting the workers failed")
    else:
        logger.info("Ready")
        return
    if on_failure is not None:
        on_failure()
