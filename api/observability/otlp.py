"""Traces sent by OTLP over HTTP with OpenTelemetry's SDK: in batches, by a thread of its own.

No request waits for it. A queue that is full drops spans; a collector that does not answer costs log lines.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from time import monotonic_ns, time_ns

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from api.observability.tracing import Attributes, Span, Tracing
from api.protocol.errors import ApiError
from api.protocol.messages import Stage

CLOSE_SECONDS = 5.0
"""How long the end of the service waits for the last spans to be sent."""

_PROPAGATED = {b"traceparent", b"tracestate"}  # W3C Trace Context
_FAILED = 500


class OtlpTracing(Tracing):
    """Sends traces to a collector."""

    def __init__(self, endpoint: str | None) -> None:
        """``endpoint`` is the collector's address, to which ``/v1/traces`` is added; None takes that of
        OpenTelemetry's variables, which also set all else (sampler, headers, timeouts, service name)."""
        defaults = {"service.name": "googlenet-detector", "service.version": version("googlenet-detector")}
        resource = Resource.create(defaults).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        address = f"{endpoint.rstrip('/')}/v1/traces" if endpoint is not None else None
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
        self._tracer = self._provider.get_tracer("api", version("googlenet-detector"))
        self._propagator = TraceContextTextMapPropagator()

    def request(self, headers: Sequence[tuple[bytes, bytes]], attributes: Attributes) -> Span:
        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in _PROPAGATED}
        span = self._tracer.start_span(
            str(attributes["http.request.method"]),
            self._propagator.extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
        )
        return _OtlpSpan(self._tracer, span)

    def close(self) -> None:
        # A collector that is gone would be tried again and again.
        closing = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class _OtlpSpan(Span):
    """A span that is sent once it has ended."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer, self._span = tracer, span
        context = span.get_span_context()
        self.trace_id = trace.format_trace_id(context.trace_id) if context.is_valid else None

    @contextmanager
    def child(self, name: str, attributes: Attributes | None = None) -> Iterator[Span]:
        span = self._tracer.start_span(name, trace.set_span_in_context(self._span), attributes=attributes)
        try:
            yield _OtlpSpan(self._tracer, span)
        except BaseException as error:
            code = error.code if isinstance(error, ApiError) else type(error).__name__
            span.set_attribute("error.type", code)
            span.set_status(trace.StatusCode.ERROR)
            raise
        finally:
            span.end()

    def add_stages(self, stages: Sequence[Stage]) -> None:
        below, since_boot = trace.set_span_in_context(self._span), time_ns() - monotonic_ns()
        for stage in stages:
            span = self._tracer.start_span(
                stage.name,
                below,
                start_time=since_boot + round(stage.start * 1e9),
                attributes={"detector.waited_ms": round(stage.waited * 1000, 1)},
            )
            span.end(since_boot + round(stage.end * 1e9))

    def end(self, name: str, status: int, attributes: Attributes) -> None:
        self._span.update_name(name)
        self._span.set_attributes({**attributes, "http.response.status_code": status})
        if status >= _FAILED:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
