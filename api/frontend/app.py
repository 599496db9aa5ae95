"""The service as an ASGI application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from api.frontend import docs_page, models, monitoring, pages, routes
from api.frontend.auth import RequireKey
from api.frontend.errors import install_error_handlers
from api.frontend.monitoring import HeadAsGet
from api.frontend.openapi import DESCRIPTION, UNAUTHORIZED
from api.frontend.service import Service
from api.frontend.settings import Settings
from api.frontend.worker_client import WorkerFailed
from api.observability import metrics_route
from api.observability.metrics import Metrics
from api.observability.middleware import Watch

logger = logging.getLogger("api")


def create_app(
    settings: Settings | None = None, on_load_failure: Callable[[], None] | None = None
) -> FastAPI:
    """The application; settings come from the environment unless given.

    It answers at once and starts its workers meanwhile: /health/ready tells when they are ready. Should their
    weights not load, that is logged, ``on_load_failure`` is called, and the service stays unready.
    """
    settings = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(settings, metrics)
        app.state.service = service
        loading = asyncio.create_task(_load(service, on_load_failure))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await service.close()

    app = FastAPI(
        title="GoogLeNet detector",
        description=DESCRIPTION,
        version=version("googlenet-detector"),
        lifespan=lifespan,
        docs_url=None,  # ours needs no internet
        redoc_url=None,
        redirect_slashes=False,
    )
    keys = settings.keys
    for part in (routes, models):
        if keys:
            app.include_router(part.router, dependencies=[Depends(RequireKey(keys))], responses=UNAUTHORIZED)
        else:
            app.include_router(part.router)
    for part in (monitoring, metrics_route, docs_page, pages):  # open, with keys or without
        app.include_router(part.router)
    install_error_handlers(app)
    app.state.metrics = metrics
    stack: ASGIApp = HeadAsGet(app.build_middleware_stack())
    if settings.cors_origins:
        stack = _shared_with(settings.cors_origins, stack)
    app.middleware_stack = Watch(stack, metrics)
    return app


def _shared_with(origins: Sequence[str], app: ASGIApp) -> ASGIApp:
    """The app for pages of other origins too. Around the whole of it, so that pages can read errors as well.

    No cookie means anything here, so browsers are not asked for credentials; a key travels in a header.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        expose_headers=("X-Request-Id", "Retry-After", "WWW-Authenticate"),
    )


async def _load(service: Service, on_failure: Callable[[], None] | None) -> None:
    try:
        await service.pool.start()
    except WorkerFailed as error:
        logger.error("The service cannot start: %s", error)
    except Exception:
        logger.exception("Starting the workers failed")
    else:
        logger.info("Ready")
        return
    if on_failure is not None:
        on_failure()
