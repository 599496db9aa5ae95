"""The manifests of docker/kubernetes: valid for Kubernetes, and true of the service."""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.frontend.settings import Settings
from api.frontend.shutdown import SENDING_SECONDS
from api.observability.metrics import Metrics

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="it comes with the extra dev")

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docker" / "kubernetes"
VERSIONS = ["1.29", "1.36"]
"""The oldest and the newest Kubernetes that the manifests are checked for."""

BASE = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((FOLDER / "base").glob("*.yaml"))}
RESOURCES = {name: one for name, one in BASE.items() if name != "kustomization"}
DEPLOYMENT = BASE["deployment"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
MONITOR = yaml.safe_load((FOLDER / "monitoring" / "servicemonitor.yaml").read_text())
ADAPTER = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())


def check(manifest: dict[str, Any], version: str) -> None:
    """Raises ValidationError for a field that Kubernetes does not know, or a value of another type."""
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", RESOURCES)
def test_the_base_is_valid(name: str, version: str) -> None:
    check(RESOURCES[name], version)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(("spec", "template", "spec", "enableServiceLink"), False, id="a name misspelt"),
        pytest.param(("spec", "template", "spec", "terminationGracePeriodSeconds"), "50s", id="a text"),
        pytest.param(("spec", "selector"), [], id="a list for an object"),
    ],
)
def test_what_is_not_valid_is_found(path: tuple[str, ...], value: object) -> None:
    """The schemas that are used here are strict ones."""
    broken = copy.deepcopy(DEPLOYMENT)
    *parents, last = path
    place = broken
    for key in parents:
        place = place[key]
    place[last] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check(broken, VERSIONS[-1])


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """What kustomize makes of a folder. Skips where it is not installed."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is installed")
    done = subprocess.run([*command, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def test_the_base_is_put_together_of_every_file() -> None:
    assert set(BASE["kustomization"]["resources"]) == {f"{name}.yaml" for name in RESOURCES}
    built = kustomize(FOLDER / "base")
    assert sorted(one["kind"] for one in built) == sorted(one["kind"] for one in RESOURCES.values())


def test_the_overlay_for_gpus() -> None:
    built = {one["kind"]: one for one in kustomize(FOLDER / "gpu")}
    for one in built.values():
        check(one, VERSIONS[-1])
    [container] = built["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "googlenet-detector:gpu"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    environment = {one["name"]: one.get("value") for one in container["env"]}
    assert Settings(device=environment["DETECTOR_DEVICE"]).devices == ("cuda",)
    assert environment.keys() > {one["name"] for one in CONTAINER["env"]}
    assert container["securityContext"] == CONTAINER["securityContext"]
    target = built["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["target"]["averageValue"]
    assert int(target) > int(pods_metric()["target"]["averageValue"])


def test_monitoring_joins_an_overlay(tmp_path: Path) -> None:
    for name in ("base", "gpu", "monitoring"):
        shutil.copytree(FOLDER / name, tmp_path / name)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text("resources: [../gpu]\ncomponents: [../monitoring]\n")
    assert "ServiceMonitor" in {one["kind"] for one in kustomize(mine)}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    names = set(re.findall(r"\bDETECTOR_[A-Z_]+\b", path.read_text()))
    assert names <= {f"DETECTOR_{name.upper()}" for name in Settings.model_fields}


def test_variables_hold_what_their_settings_take() -> None:
    given = {one["name"]: one["value"] for one in CONTAINER["env"] if "value" in one}
    Settings(**{name.removeprefix("DETECTOR_").lower(): value for name, value in given.items()})
    for one in CONTAINER["env"]:
        if "valueFrom" in one:
            kind = one["valueFrom"]["resourceFieldRef"]["resource"].removeprefix("requests.")
            assert CONTAINER["resources"]["requests"][kind].isdecimal()


def test_the_container_is_shut_in_as_by_compose() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["detector"]
    inside = CONTAINER["securityContext"]
    assert inside["readOnlyRootFilesystem"] is compose["read_only"] is True
    assert inside["capabilities"]["drop"] == compose["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in compose["security_opt"]
    assert inside["allowPrivilegeEscalation"] is False
    [user] = re.findall(r"useradd --uid (\d+)", (ROOT / "docker" / "Dockerfile").read_text())
    assert (POD["securityContext"]["runAsNonRoot"], POD["securityContext"]["runAsUser"]) == (True, int(user))
    assert [mount["mountPath"] for mount in CONTAINER["volumeMounts"]] == compose["tmpfs"]
    assert POD["enableServiceLinks"] is False  # a Service of this name would set DETECTOR_PORT


def test_a_pod_has_time_to_end() -> None:
    """What waits for balancers, what drains, what is sent after that, and some seconds for the worker."""
    _, wait = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    [drain] = [int(one["value"]) for one in CONTAINER["env"] if one["name"] == "DETECTOR_DRAIN_SECONDS"]
    assert POD["terminationGracePeriodSeconds"] >= int(wait) + drain + SENDING_SECONDS + 5


def test_probes_ask_what_they_are_about() -> None:
    paths = {name: CONTAINER[name]["httpGet"]["path"] for name in CONTAINER if name.endswith("Probe")}
    assert paths == {
        "startupProbe": "/health/ready",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    startup = CONTAINER["startupProbe"]
    assert (
        startup["periodSeconds"] * startup["failureThreshold"]
        >= Settings.model_fields["start_seconds"].default
    )


def test_selectors_find_the_pods_and_ports_each_other() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert BASE["service"]["spec"]["selector"] == labels
    assert BASE["poddisruptionbudget"]["spec"]["selector"]["matchLabels"] == labels
    assert MONITOR["spec"]["selector"]["matchLabels"] == BASE["service"]["metadata"]["labels"]
    [port] = BASE["service"]["spec"]["ports"]
    assert port["targetPort"] == CONTAINER["ports"][0]["name"]
    assert MONITOR["spec"]["endpoints"][0]["port"] == port["name"]
    target = BASE["horizontalpodautoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (DEPLOYMENT["kind"], DEPLOYMENT["metadata"]["name"])


def pods_metric() -> dict[str, Any]:
    [metric] = BASE["horizontalpodautoscaler"]["spec"]["metrics"]
    return metric["pods"]  # type: ignore[no-any-return]


def test_the_autoscaler_reads_a_metric_that_the_service_tells() -> None:
    name = pods_metric()["metric"]["name"]
    assert f"# TYPE {name} gauge" in Metrics().exposition()[0].decode()
    [rule] = ADAPTER["rules"]["custom"]
    assert rule["name"]["as"] == name
    assert re.fullmatch(rule["name"]["matches"], name)
    assert rule["seriesQuery"].startswith(f"{name}{{")
