"""Read a service's own metrics."""

import time
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from loadtest.processes import Server

REPORTED = 1.5
"""Seconds after which what a worker did stands in the service's metrics."""


def metric(server: Server, name: str) -> float:
    """Sum a metric over all its labels. Raises SystemExit where the service does not have it."""
    text = server.get("/metrics", timeout=30).text
    family = name.removesuffix("_total")
    for one in text_string_to_metric_families(text):
        if one.name == family:
            return sum(sample.value for sample in one.samples if sample.name == name)
    raise SystemExit(f"error: /metrics of the service has no {name}")


def until_idle(server: Server, seconds: float) -> dict[str, float]:
    """Return the gauges of pending work once they are zero, or as they are after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        left = {
            name: metric(server, name) for name in ("detector_pending_requests", "detector_pending_regions")
        }
        if not any(left.values()) or time.monotonic() > end:
            return left
        time.sleep(0.1)


def regions(server: Server) -> float:
    """Return how many regions were computed, once nothing moves: workers report twice a second."""
    until_idle(server, 30)
    time.sleep(REPORTED)
    return metric(server, "detector_regions_total")


def requests_by_status(server: Server) -> Counter[str]:
    """Count the requests to /detect by status, as the service does."""
    counts = Counter[str]()
    for one in text_string_to_metric_families(server.get("/metrics", timeout=30).text):
        for sample in one.samples:
            if sample.name == "detector_requests_total" and sample.labels["endpoint"] == "/detect":
                counts[sample.labels["status"]] += int(sample.value)
    return counts
