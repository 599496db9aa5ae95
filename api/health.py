"""``/health/live`` and ``/health/ready``, for load balancers and orchestrators."""

from fastapi import APIRouter, Request, Response

from api.documentation import HEALTH
from api.replies import json_reply
from api.schemas import Health
from api.service import Service

router = APIRouter()


@router.get("/health/live", response_model=Health)
async def live() -> Response:
    """Whether the process answers at all."""
    return json_reply({"status": "live"})


@router.get("/health/ready", response_model=Health, responses=HEALTH)
async def ready(request: Request) -> Response:
    """Whether the weights are loaded, a first picture went through them, and the service is not ending."""
    service: Service = request.app.state.service
    service.check_ready()
    return json_reply({"status": "ready"})
