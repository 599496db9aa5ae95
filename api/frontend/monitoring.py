"""HEAD wherever GET is answered (RFC 9110, section 9.3.2); FastAPI's routes know GET alone.

``/health/live`` and ``/health/ready``, for load balancers and orchestrators.
"""

from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.frontend.openapi import LIVE, READY
from api.frontend.responses import json_reply
from api.frontend.schemas import Health
from api.frontend.service import Service


class HeadAsGet:
    """Has HEAD answered as GET is, and leaves the body out: its length is stated all the same."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}

        async def without_body(message: Message) -> None:
            if "route" in as_get:
                scope["route"] = as_get["route"]  # metrics and log go by it
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app(as_get, receive, without_body)


router = APIRouter()


@router.get("/health/live", response_model=Health, responses=LIVE)
async def live(request: Request) -> Response:
    """Whether the service does its work or can be expected to do so again without being restarted."""
    service: Service = request.app.state.service
    service.check_live()
    return json_reply({"status": "live"})


@router.get("/health/ready", response_model=Health, responses=READY)
async def ready(request: Request) -> Response:
    """Whether the weights are loaded, a first picture went through them, and the service is not ending."""
    service: Service = request.app.state.service
    service.check_ready()
    return json_reply({"status": "ready"})
