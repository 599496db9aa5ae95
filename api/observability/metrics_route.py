"""``GET /metrics``, for Prometheus."""

from fastapi import APIRouter, Request, Response

from api.observability.metrics import Metrics

router = APIRouter()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "In Prometheus' text format", "content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    """The service's metrics in Prometheus' text format, or OpenMetrics' if Accept asks for it."""
    told: Metrics = request.app.state.metrics
    content, content_type = told.exposition(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": content_type})
