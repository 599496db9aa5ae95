"""Traces: a span for each request, below it one for its body and one for each picture, below that its stages.

What is here does nothing and imports nothing, and is what runs where no traces are sent;
:mod:`api.observability.otlp` sends them. :func:`open_tracing` chooses.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from api.protocol.messages import Stage

logger = logging.getLogger("api")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables of which one turns traces on (OpenTelemetry's specification of the OTLP exporter)."""

Attributes = Mapping[str, str | int | float]


class Span:
    """A part of a trace, of which nothing is kept."""

    trace_id: str | None = None
    """The number of the trace, 32 hexadecimal digits; None where there is none."""

    @contextmanager
    def child(self, name: str, attributes: Attributes | None = None) -> "Iterator[Span]":
        """Have a part below this one, which ends with the block; an error that leaves the block is noted."""
        yield self

    def add_stages(self, stages: Sequence[Stage]) -> None:
        """Add parts below this one that are over already."""

    def end(self, name: str, status: int, attributes: Attributes) -> None:
        """End the span of a request, which was answered with a status; from 500 on it counts as failed."""


class Tracing:
    """Traces nothing."""

    def request(self, headers: Sequence[tuple[bytes, bytes]], attributes: Attributes) -> Span:
        """Begin the span of a request. Its ``traceparent`` says what trace it is a part of."""
        return Span()

    def close(self) -> None:
        """Send what is left. It waits for some seconds at most."""


def open_tracing(endpoint: str | None) -> Tracing:
    """Return what sends traces to the collector at ``endpoint``, or where OpenTelemetry's own variables say;
    with neither, what sends none.

    Where the packages are missing it is logged, and none are sent: a variable that is set for a whole cluster
    must not end the service.
    """
    named = endpoint is not None or any(os.environ.get(name) for name in ENDPOINTS)
    if not named or os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
        return Tracing()
    try:
        from api.observability.otlp import OtlpTracing
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        logger.warning("No traces are sent: pip install 'googlenet-detector[tracing]' brings what they need")
        return Tracing()
    return OtlpTracing(endpoint)
