"""/models tells what is loaded."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from api.frontend.errors import install_error_handlers
from api.frontend.routes import ModelList, router
from api.protocol.model_info import ModelInfo
from api.worker.loaded_model import model_info
from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.ensemble import Ensemble
from detector.inference.loading import load_detector, load_ensemble
from detector.inference.placement import place
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.options import CROP_COST, Profile

Serving = Callable[[FastAPI], AbstractContextManager[httpx.Client]]


def described(
    name: str, *paths: Path, max_proposals: int | None = None, ensemble: Ensemble | None = None
) -> dict[str, Any]:
    """What the worker would tell of weights that detect and classify."""
    ensemble = ensemble or load_ensemble(paths, device="cpu")
    return model_info(
        name,
        paths,
        ensemble,
        Detector(ensemble, max_proposals=max_proposals),
        Classifier(ensemble),
    )


def test_weights_without_a_multibox_head(checkpoint_path: Path) -> None:
    told = described("mine", checkpoint_path)
    assert orjson.loads(orjson.dumps(told)) == told
    ModelInfo.model_validate(told)
    assert told["tasks"] == ["detect", "classify"]
    assert told["profiles"] == [
        {"name": "search", "max_regions": 120, "cost": 120 * CROP_COST, "region_cost": CROP_COST}
    ]
    assert told["default_profile"] == "search"
    assert told["scoring"]["nms_iou"] == 0.3
    [member] = told["members"]
    metadata = load_checkpoint(checkpoint_path).metadata
    assert (member["name"], member["architecture"]) == (metadata.name, "googlenet")
    assert member["licence"] == "none"
    assert member["file"] == {
        "name": checkpoint_path.name,  # where it lies is nobody's business
        "bytes": checkpoint_path.stat().st_size,
        "sha256": sha256(checkpoint_path.read_bytes()).hexdigest(),
    }
    assert len(told["detection_classes"]) == 200
    assert told["detection_classes"][0] == {"id": "n02672831", "name": "accordion"}
    assert len(told["classification_classes"]) == 1000
    assert (
        abs((datetime.now().astimezone() - datetime.fromisoformat(told["loaded_at"])).total_seconds()) < 600
    )


def test_weights_with_a_multibox_head(multibox_path: Path) -> None:
    told = described("mine", multibox_path)
    assert {one["name"]: one["max_regions"] for one in told["profiles"]} == {
        "fast": 60,
        "balanced": 120,
        "thorough": 300,
        "paper": None,
        "search": 120,
    }
    assert told["default_profile"] == "balanced"
    detector = load_detector(multibox_path, device="cpu")
    assert {one["name"]: one["cost"] for one in told["profiles"]} == {
        "fast": detector.cost(Profile.FAST, 60),
        "balanced": detector.cost(Profile.BALANCED, 120),
        "thorough": detector.cost(Profile.THOROUGH, 300),
        "paper": detector.cost(Profile.PAPER, 800),  # all there are: about so many
        "search": detector.cost(Profile.SEARCH, 120),
    }


def test_a_limit_of_regions_holds_for_every_profile(multibox_path: Path) -> None:
    told = described("mine", multibox_path, max_proposals=7)
    assert [one["max_regions"] for one in told["profiles"]] == [7] * 5


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        pytest.param({"engine": "torch", "precision": "float32"}, ("torch", "float32"), id="as asked for"),
        pytest.param({"engine": "torch", "precision": "bfloat16"}, ("torch", "bfloat16"), id="in 16 bits"),
        pytest.param(
            {"engine": "openvino", "precision": "float32"}, ("openvino", "float32"), id="by another engine"
        ),
    ],
)
def test_what_runs_it_is_told(checkpoint_path: Path, asked: dict[str, str], told: tuple[str, str]) -> None:
    info = described("mine", checkpoint_path, ensemble=load_ensemble(checkpoint_path, device="cpu", **asked))
    assert (info["engine"], info["precision"]) == told


def test_an_ensemble_names_its_members(checkpoint_path: Path, multibox_path: Path, tmp_path: Path) -> None:
    other = load_checkpoint(multibox_path)
    path = tmp_path / "other.safetensors"
    metadata = replace(other.metadata, name="other", metrics={"mAP": 0.4}, training={"seed": 1})
    save_checkpoint(path, Checkpoint(other.network, metadata, other.multibox))
    told = described("both", checkpoint_path, path)
    assert [one["name"] for one in told["members"]] == [
        load_checkpoint(checkpoint_path).metadata.name,
        "other",
    ]
    assert told["members"][1]["metrics"] == {"mAP": 0.4}
    assert told["members"][1]["training"] == {"seed": 1}


def test_weights_of_one_task(untrained: Checkpoint, checkpoint_path: Path) -> None:
    paths = [checkpoint_path]
    ensemble = load_ensemble(paths, device="cpu")
    detects = model_info("a", paths, ensemble, Detector(ensemble), None)
    ModelInfo.model_validate(detects)
    assert (detects["tasks"], detects["classification_classes"]) == (["detect"], [])
    classifier = place(untrained, device="cpu")
    classifies = model_info("b", paths, classifier, None, Classifier(classifier))
    ModelInfo.model_validate(classifies)
    assert (classifies["tasks"], classifies["profiles"], classifies["scoring"]) == (["classify"], [], None)


def test_the_service_lists_what_it_loaded(client: httpx.Client) -> None:
    reply = client.get("/models")
    assert reply.status_code == 200
    [summary] = ModelList.model_validate(reply.json()).models
    assert (summary.detection_class_count, summary.classification_class_count) == (200, 1000)
    whole = client.get(f"/models/{summary.name}")
    assert len(ModelInfo.model_validate(whole.json()).detection_classes) == 200


@pytest.mark.parametrize("path", ["/models", "/models/default"])
def test_nothing_is_known_until_it_is_loaded(unready_client: httpx.Client, path: str) -> None:
    reply = unready_client.get(path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "not_ready")


class Service:
    """Knows of two models."""

    def models(self) -> list[ModelInfo]:
        nothing = {
            "tasks": [],
            "members": [],
            "engine": "",
            "precision": "",
            "profiles": [],
            "default_profile": None,
            "scoring": None,
        }
        nothing |= {"loaded_at": "", "detection_classes": [], "classification_classes": []}
        return [ModelInfo(name=name, **nothing) for name in ("birds", "tools")]


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("tools", 200, None),
        ("tool", 404, "No model 'tool' is loaded. Did you mean tools?"),
        ("Tools", 404, "No model 'Tools' is loaded. Did you mean tools?"),
        ("xyz", 404, "No model 'xyz' is loaded. There is birds, tools."),
    ],
)
def test_models_are_found_by_name(serving: Serving, name: str, status: int, message: str | None) -> None:
    app = FastAPI()
    app.include_router(router)
    install_error_handlers(app)
    app.state.service = Service()
    with serving(app) as client:
        reply = client.get(f"/models/{name}")
    assert reply.status_code == status
    if message is None:
        assert reply.json()["name"] == name
    else:
        assert reply.json() == {"error": {"code": "unknown_model", "message": message}}
