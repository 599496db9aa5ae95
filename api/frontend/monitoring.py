"""What watches the service asks: ``/health/live``, ``/health/ready`` and ``/metrics``."""

from fastapi import APIRouter, Request, Response

from api.frontend.errors import json_reply
from api.frontend.openapi import LIVE, METRICS, READY
from api.frontend.schemas import Health
from api.frontend.service import Service
from api.observability.metrics import Metrics

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


@router.get("/metrics", response_class=Response, responses=METRICS)
async def metrics(request: Request) -> Response:
    """The service's metrics in Prometheus' text format, or OpenMetrics' if Accept asks for it."""
    metrics: Metrics = request.app.state.metrics
    content, content_type = metrics.exposition(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": content_type})
