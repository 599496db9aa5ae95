"""compose.yaml and what it mounts: the files fit each other and the service."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.frontend.settings import Settings
from api.observability.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/detector.json").read_text())

METRICS = {
    "detector_requests_total": {"endpoint", "status"},
    "detector_request_seconds": {"endpoint", "le"},
    "detector_stage_seconds": {"stage", "le"},
    "detector_refusals_total": {"reason"},
    "detector_pending_requests": set(),
    "detector_pending_regions": set(),
    "detector_queue_regions": {"device"},
    "detector_batches_total": {"device"},
    "detector_regions_total": {"device"},
    "detector_batch_fill": {"device", "le"},
    "detector_device_memory_bytes": {"device"},
    "detector_workers_ready": set(),
    "detector_worker_restarts_total": set(),
    "detector_abandoned_total": set(),
    "detector_connections": set(),
    "detector_connections_ended_total": {"reason"},
    "detector_log_lines_lost_total": set(),
}
"""The metrics that the dashboard may show, and their labels."""


def started(*profiles: str) -> list[str]:
    """The services of ``docker compose --profile ... up``; without profiles those that .env names."""
    default = re.search(r"^COMPOSE_PROFILES=(.*)$", (ROOT / ".env").read_text(), re.MULTILINE)
    assert default is not None
    active = set(profiles or default[1].split(","))
    return [name for name, service in SERVICES.items() if active & set(service.get("profiles", active))]


@pytest.mark.parametrize(
    ("profiles", "services"),
    [
        pytest.param([], ["detector"], id="docker compose up"),
        pytest.param(["gpu"], ["detector-gpu"], id="the GPU's in its place"),
        pytest.param(["replicas"], ["detector-replica", "proxy"], id="several behind nginx"),
        pytest.param(["monitoring"], ["prometheus", "grafana"], id="beside the one that runs"),
        pytest.param(["gpu", "monitoring"], ["detector-gpu", "prometheus", "grafana"], id="all at once"),
    ],
)
def test_what_starts_and_that_no_two_want_a_port(profiles: list[str], services: list[str]) -> None:
    assert started(*profiles) == services
    published = [port.rpartition(":")[0] for name in services for port in SERVICES[name].get("ports", [])]
    assert len(set(published)) == len(published)


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        ("detector", ["${PORT:-8000}:8000"]),
        ("detector-gpu", ["${PORT:-8000}:8000"]),
        ("detector-replica", None),  # whoever reached one could say to be any client
    ],
)
def test_the_service_is_shut_in_and_has_time_to_end(name: str, ports: list[str] | None) -> None:
    service = SERVICES[name]
    assert service.get("ports") == ports
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    seconds = int(service["stop_grace_period"].removesuffix("s"))
    assert seconds > Settings.model_fields["drain_seconds"].default


def test_a_gpu_is_reserved_where_it_is_used_and_nowhere_else() -> None:
    [device] = SERVICES["detector-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert Settings(device=SERVICES["detector-gpu"]["environment"]["DETECTOR_DEVICE"]).devices == ("cuda",)
    assert "deploy" not in SERVICES["detector"]


def test_what_is_named_is_there() -> None:
    """Stages of the Dockerfile, mounted files, volumes."""
    stages = re.findall(r"^FROM .* AS (\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    for service in SERVICES.values():
        if "build" in service:
            assert service["build"]["target"] in stages
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
    assert stages[-1] == SERVICES["detector"]["build"]["target"]  # what `docker build` makes if not told


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    lines = re.findall(r"^COPY (?!--)(.*) \S+$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    copied = {source for line in lines for source in line.split()}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_prometheus_and_nginx_find_every_replica_of_either_service() -> None:
    config = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    [lookup] = job["dns_sd_configs"]
    assert (lookup["names"], lookup["type"], lookup["port"]) == (["detector"], "A", 8000)
    for name in ("detector-gpu", "detector-replica"):
        assert SERVICES[name]["networks"]["default"]["aliases"] == ["detector"]
    assert "server detector:8000 resolve" in (ROOT / "docker/nginx/replicas.conf").read_text()


def test_nginx_listens_where_its_port_leads_to() -> None:
    [port] = SERVICES["proxy"]["ports"]
    assert f"listen {port.rpartition(':')[2]};" in (ROOT / "docker/nginx/detector.conf").read_text()


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = ROOT / "docker/grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    parts = [*DASHBOARD["panels"], *DASHBOARD["templating"]["list"]]
    assert {part["datasource"]["uid"] for part in parts} == {source["uid"]}
    [provider] = yaml.safe_load((provisioning / "dashboards/detector.yml").read_text())["providers"]
    mounts = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts


EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS += [variable["definition"] for variable in DASHBOARD["templating"]["list"]]


def parts(expression: str) -> tuple[set[str], set[str]]:
    """The metrics that an expression reads, histograms by their own names, and the labels that it names."""
    names = set(re.findall(r"\bdetector_\w+", expression))
    plain = {name if name in METRICS else re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    labels = re.findall(r"(\w+)=~?\"", expression)
    for group in re.findall(r"by \(([\w, ]+)\)", expression):
        labels += group.split(", ")
    labels += re.findall(r"label_values\(\w+, (\w+)\)", expression)
    return plain, set(labels)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_dashboard_reads_metrics_that_exist(expression: str) -> None:
    names, labels = parts(expression)
    assert names
    assert names <= set(METRICS)
    assert labels <= set.intersection(*(METRICS[name] for name in names))
    histogram = "_bucket" in expression
    assert histogram == ("le" in labels)
    for counter in re.findall(r"(\w+_total|\w+_(?:bucket|sum|count))\b", expression):
        assert re.search(rf"(rate|increase|label_values)\({counter}", expression), "a counter has to be rated"


def test_the_dashboard_shows_all_that_the_service_tells() -> None:
    text = Metrics().exposition()[0].decode()
    told = set(re.findall(r"^# TYPE (detector_\w+) (?:counter|gauge|histogram)$", text, re.MULTILINE))
    told -= {"detector_build_info"} | {name for name in told if name.endswith("_created")}
    assert told == set(METRICS)
    assert set.union(*(parts(expression)[0] for expression in EXPRESSIONS)) == told


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
