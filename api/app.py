"""The service as an ASGI application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from api import docs_page, metrics_route, models
from api.documentation import DESCRIPTION
from api.errors import install_error_handlers
from api.inference import Inference, SingleWorker
from api.metrics import Metrics
from api.middleware import Watch
from api.pages import router as pages
from api.routes import router
from api.service import Service
from api.settings import Settings
from detector.errors import DetectorError

logger = logging.getLogger("uvicorn.error")  # the server's own log, which every installation shows


def create_app(
    settings: Settings | None = None, on_load_failure: Callable[[], None] | None = None
) -> FastAPI:
    """The application; settings come from the environment unless given.

    It answers at once and loads the weights meanwhile: /health/ready tells when they are there. Should they
    not load, that is logged, ``on_load_failure`` is called, and the service stays unready.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        inference = SingleWorker(
            settings.weights,
            device=settings.device,
            profile=settings.profile,
            max_proposals=settings.max_proposals,
            threads=settings.threads,
        )
        decoders = ThreadPoolExecutor(settings.prepare_threads, thread_name_prefix="decode")
        app.state.service = Service(settings.limits, decoders, inference)
        loading = asyncio.create_task(_load(inference, on_load_failure))
        try:
            yield
        finally:
            loading.cancel()
            inference.close()
            decoders.shutdown()

    app = FastAPI(
        title="GoogLeNet detector",
        description=DESCRIPTION,
        version=version("googlenet-detector"),
        lifespan=lifespan,
        docs_url=None,  # ours needs no internet
        redoc_url=None,
        redirect_slashes=False,
    )
    for part in (router, models.router, metrics_route.router, docs_page.router, pages):
        app.include_router(part)
    install_error_handlers(app)
    app.state.metrics = Metrics()
    app.middleware_stack = Watch(app.build_middleware_stack(), app.state.metrics)
    return app


async def _load(inference: Inference, on_failure: Callable[[], None] | None) -> None:
    try:
        await inference.load()
    except DetectorError as error:
        logger.error("The weights cannot be used: %s", error)
    except Exception:
        logger.exception("Loading the weights failed")
    else:
        logger.info("Ready")
        return
    if on_failure is not None:
        on_failure()
