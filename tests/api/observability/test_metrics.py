"""Prometheus is told what happened, in both of its formats."""

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from api.observability.metrics import Metrics
from api.protocol.messages import Report

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
GPU = {"device": "cuda:0"}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = parse_plain(metrics.exposition()[0].decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for f in families for one in f.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def test_every_event_moves_its_metric() -> None:
    metrics = Metrics()
    metrics.request_done("/detect", 200, 0.03)
    metrics.request_done("/detect", 429, 0.0004)
    metrics.stages({"queue": 2.0, "decode": 4.0, "proposals": 40.0, "classify": 900.0, "total": 946.0})
    metrics.refused("overloaded")
    metrics.pending(3, 360)
    metrics.worker_ready(2)
    metrics.worker_restarted()
    metrics.abandoned()
    metrics.log_lines_lost(7)
    expected = {
        ("detector_requests_total", ("endpoint", "/detect"), ("status", "200")): 1,
        ("detector_requests_total", ("endpoint", "/detect"), ("status", "429")): 1,
        ("detector_request_seconds_count", ("endpoint", "/detect")): 2,
        ("detector_request_seconds_bucket", ("endpoint", "/detect"), ("le", "0.001")): 1,
        ("detector_request_seconds_bucket", ("endpoint", "/detect"), ("le", "0.05")): 2,
        ("detector_stage_seconds_sum", ("stage", "classify")): 0.9,
        ("detector_refusals_total", ("reason", "overloaded")): 1,
        ("detector_pending_requests",): 3,
        ("detector_pending_regions",): 360,
        ("detector_workers_ready",): 2,
        ("detector_worker_restarts_total",): 1,
        ("detector_abandoned_total",): 1,
        ("detector_log_lines_lost_total",): 7,
    }
    told = samples(metrics)
    assert {key: told[key[0], key[1:]] for key in expected} == pytest.approx(expected)
    assert value(metrics, "detector_stage_seconds_count", stage="total") is None  # it is no stage


def report(queued: int, regions: int, fills: tuple[float, ...], memory: int) -> Report:
    return Report(queued, regions, fills, 0.0, 0, 0.0, memory, 0)


def test_a_device_reports_what_happened_since() -> None:
    metrics = Metrics()
    metrics.device_report("cuda:0", report(500, 96, (1.0, 0.5), 10**9))
    metrics.device_report("cuda:0", report(0, 64, (0.95,), 2 * 10**9))
    metrics.device_report("cuda:1", report(7, 0, (), 0))
    assert value(metrics, "detector_queue_regions", **GPU) == 0  # as it is now
    assert value(metrics, "detector_queue_regions", device="cuda:1") == 7
    assert value(metrics, "detector_batches_total", **GPU) == 3  # added up
    assert value(metrics, "detector_regions_total", **GPU) == 160
    assert value(metrics, "detector_batch_fill_bucket", **GPU, le="0.5") == 1
    assert value(metrics, "detector_batch_fill_bucket", **GPU, le="0.9") == 1
    assert value(metrics, "detector_batch_fill_bucket", **GPU, le="1.0") == 3
    assert value(metrics, "detector_device_memory_bytes", **GPU) == 2 * 10**9


def test_two_apps_in_a_process_do_not_mix() -> None:
    one, other = Metrics(), Metrics()
    one.abandoned()
    assert value(other, "detector_abandoned_total") == 0


def test_the_process_and_the_version_are_told() -> None:
    told = samples(Metrics())
    assert told["process_resident_memory_bytes", ()] > 0
    assert told["process_open_fds", ()] > 0
    [labels] = [labels for name, labels in told if name == "detector_build_info"]
    assert dict(labels)["version"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param("", PLAIN, id="nothing asked"),
        pytest.param("text/html,*/*;q=0.8", PLAIN, id="a browser"),
        pytest.param("application/openmetrics-text;version=1.0.0;q=0.5,*/*", OPENMETRICS, id="Prometheus"),
        pytest.param(
            "application/openmetrics-text;version=x;escaping=\u00ff",
            OPENMETRICS,
            id="nothing of it is echoed",
        ),
    ],
)
def test_accept_chooses_the_format(accept: str, content_type: str) -> None:
    metrics = Metrics()
    metrics.refused("empty")
    content, told = metrics.exposition(accept)
    assert told == content_type
    parse = parse_openmetrics if content_type == OPENMETRICS else parse_plain
    names = {sample.name for family in parse(content.decode()) for sample in family.samples}
    assert {"detector_refusals_total", "detector_request_seconds_count"} & names == {
        "detector_refusals_total"
    }


def test_the_service_counts_its_requests(client: httpx.Client) -> None:
    def refusals() -> float:
        told = parse_plain(client.get("/metrics").text)
        refused = [one for f in told for one in f.samples if one.name == "detector_refusals_total"]
        return sum(one.value for one in refused if one.labels["reason"] == "unsupported_media_type")

    before = refusals()
    assert client.post("/detect", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert refusals() == before + 1
