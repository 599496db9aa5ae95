"""The metrics of the service, for Prometheus."""

from collections.abc import Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client import exposition as plain
from prometheus_client.openmetrics import exposition as openmetrics

from api.observability.logs import take_lost_lines
from api.protocol.messages import Report

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


class Metrics:
    """The metrics of one app, in a registry of its own: several apps in a process do not mix."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)
        Info("detector_build", "The version that runs", registry=registry).info(
            {"version": version("googlenet-detector")}
        )
        self._requests = Counter(
            "detector_requests_total",
            "Requests answered, by route and status; 499: the client left before the answer",
            ["endpoint", "status"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "detector_request_seconds",
            "From the head of a request to the end of its answer",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "detector_stage_seconds",
            "What a picture spent in each stage of its way",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._refusals = Counter(
            "detector_refusals_total",
            "Requests for detection or classification that were not served, by the code of the error",
            ["reason"],
            registry=registry,
        )
        self._pending_requests = Gauge(
            "detector_pending_requests", "Requests admitted and not yet answered", registry=registry
        )
        self._pending_regions = Gauge(
            "detector_pending_regions",
            "Estimated regions of the pictures that wait or are worked on",
            registry=registry,
        )
        self._queue_regions = Gauge(
            "detector_queue_regions", "Regions that wait for the device", ["device"], registry=registry
        )
        self._batches = Counter(
            "detector_batches_total", "Batches that the device ran", ["device"], registry=registry
        )
        self._regions = Counter(
            "detector_regions_total", "Regions that the device ran", ["device"], registry=registry
        )
        self._batch_fill = Histogram(
            "detector_batch_fill",
            "Share of a batch that was regions, the rest being padding",
            ["device"],
            buckets=_SHARES,
            registry=registry,
        )
        self._memory = Gauge(
            "detector_device_memory_bytes", "Memory of the device in use", ["device"], registry=registry
        )
        self._workers_ready = Gauge(
            "detector_workers_ready", "Workers that are loaded and warm", registry=registry
        )
        self._restarts = Counter(
            "detector_worker_restarts_total", "Workers that had to be started again", registry=registry
        )
        self._abandoned = Counter(
            "detector_abandoned_total", "Requests whose client left before the answer", registry=registry
        )
        self._log_lines_lost = Counter(
            "detector_log_lines_lost_total",
            "Lines of the log that nobody read in time or that could not be written",
            registry=registry,
        )

        self._connections = Gauge("detector_connections", "Connections of clients", registry=registry)
        self._connections_ended = Counter(
            "detector_connections_ended_total",
            "Connections that the service ended for their bounds or faults, by the reason",
            ["reason"],
            registry=registry,
        )

    def connections(self, count: int) -> None:
        """Set how many connections are open."""
        self._connections.set(count)

    def connection_ended(self, reason: str) -> None:
        """Count a connection that was refused or ended before its client wanted it."""
        self._connections_ended.labels(reason).inc()

    def request_done(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request that was answered. ``endpoint`` is a route's path, never what a client made up."""
        self._requests.labels(endpoint, str(status)).inc()
        self._request_seconds.labels(endpoint).observe(seconds)

    def stages(self, timing_ms: Mapping[str, float]) -> None:
        """Observe the milliseconds of an image in each stage; their ``total`` is no stage."""
        for stage, milliseconds in timing_ms.items():
            if stage != "total":
                self._stage_seconds.labels(stage).observe(milliseconds / 1000)

    def refused(self, reason: str) -> None:
        """Count an error of this code, the answer to a request or to one image of it."""
        self._refusals.labels(reason).inc()

    def pending(self, requests: int, regions: int) -> None:
        """Set how many requests, and regions, are admitted and not yet answered."""
        self._pending_requests.set(requests)
        self._pending_regions.set(regions)

    def device_report(self, device: str, report: Report) -> None:
        """Take in the report of a device's worker."""
        self._queue_regions.labels(device).set(report.queued)
        self._batches.labels(device).inc(len(report.fills))
        self._regions.labels(device).inc(report.regions)
        fill = self._batch_fill.labels(device)
        for share in report.fills:
            fill.observe(share)
        self._memory.labels(device).set(report.memory)
        self.log_lines_lost(report.log_lines_lost)

    def worker_ready(self, count: int) -> None:
        """Set how many workers are ready."""
        self._workers_ready.set(count)

    def worker_restarted(self) -> None:
        """Count a worker that is started in the place of a lost one."""
        self._restarts.inc()

    def abandoned(self) -> None:
        """Count a client that disconnected before its answer."""
        self._abandoned.inc()

    def log_lines_lost(self, count: int) -> None:
        """Count lines of the log, of this process or a worker, that were lost since the last time."""
        self._log_lines_lost.inc(count)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics where the Accept header names it, else
        plain."""
        self.log_lines_lost(take_lost_lines())
        if "application/openmetrics-text" in accept.lower():
            return openmetrics.generate_latest(self._registry), openmetrics.CONTENT_TYPE_LATEST
        return plain.generate_latest(self._registry), plain.CONTENT_TYPE_PLAIN_0_0_4
