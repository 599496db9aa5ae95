"""A model in the worker: its networks, warm, and what ``GET /models`` tells of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.protocol.messages import WorkerSettings
from detector.errors import CheckpointError
from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.ensemble import Ensemble
from detector.inference.loading import load_ensemble
from detector.options import Profile
from detector.pretrained import SHIPPED
from detector.proposals.profiles import BUDGETS
from detector.structures.classes import ClassList


@dataclass(frozen=True)
class LoadedModel:
    """The networks of one name.

    ``classifier`` is None for weights made for detection alone. ``info`` is what ``GET /models`` tells,
    ``rate`` how many regions of shared maps a second the device takes, if what prepares them keeps up.
    """

    ensemble: Ensemble
    detector: Detector
    classifier: Classifier | None
    info: dict[str, Any]
    rate: float


_UNLIMITED_REGIONS_ESTIMATE = 800
"""An estimate of the regions of an image where the profile keeps all there are (``paper``)."""

_WARM_UP_REGIONS = 35
"""Two whole batches of a CPU and a part of one, or a GPU's one."""


def load_model(name: str, settings: WorkerSettings, streams: int = 1) -> LoadedModel:
    """Load the model of a name in the settings and run an image all the way through: compiled code and memory
    pools are in place before the first request. ``streams`` is how many batches will run at once.

    Raises CheckpointError or ParameterError for weights that cannot be used, or not as the settings say.
    """
    given = settings.models[name]
    paths = [Path(path) for path in given] if given is not None else [SHIPPED]
    # Placed once: detector and classifier share the memory of the backbones.
    ensemble = load_ensemble(
        paths,
        engine=settings.engine,
        device=settings.device,
        precision=settings.precision,
        streams=streams,
    )
    metadata = [member.metadata for member in ensemble.members]
    detector = Detector(
        ensemble,
        profile=settings.profile,
        max_proposals=settings.max_proposals,
        batch=settings.batch,
        compile=settings.compile,
    )
    classifier = None
    if all(member.classification is not None for member in metadata):
        classifier = Classifier(ensemble, batch=settings.batch)

    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    rate = 0.0
    for _ in range(2):  # the second time is warm
        start = perf_counter()
        view = detector.view(image)
        detector.prepare(view)
        prepared = perf_counter()
        proposals = detector.propose(view)
        proposed = perf_counter()
        some = proposals.first(_WARM_UP_REGIONS)
        scored = detector.score(view, some)
        scored_at = perf_counter()
        _check_finite(name, some.boxes, scored.boxes, scored.probabilities)
        detector.select(scored)
        done, asked = (detector.cost(None, len(part.boxes)) for part in (some, proposals))
        rate = min(
            streams * done / (prepared - start + scored_at - proposed),
            settings.prepare_threads * asked / (proposed - prepared),
        )
    if classifier is not None:
        _check_finite(name, classifier.probabilities(image))
    ensemble.release_memory()
    info = model_info(name, paths, ensemble, detector, classifier)
    return LoadedModel(ensemble, detector, classifier, info, rate)


def _check_finite(name: str, *outputs: NDArray[np.float32]) -> None:
    """Raise CheckpointError for numbers that no sound weights give for an image."""
    if not all(np.isfinite(output).all() for output in outputs):
        raise CheckpointError(f"model {name!r}: its weights give numbers that are not finite for a picture")


def model_info(
    name: str,
    paths: Sequence[Path],
    ensemble: Ensemble,
    detector: Detector | None,
    classifier: Classifier | None,
) -> dict[str, Any]:
    """Return what to tell of a model just loaded, as JSON knows it: a
    :class:`api.protocol.model_info.ModelInfo`.

    ``paths`` are those of the ensemble's members, in order. Reads the files for their digests.
    """
    metadata = [member.metadata for member in ensemble.members]
    thresholds = detector.thresholds if detector is not None else None
    return {
        "name": name,
        "tasks": ["detect"] * (detector is not None) + ["classify"] * (classifier is not None),
        "members": [
            {
                "name": member.name,
                "architecture": member.architecture,
                "licence": member.licence,
                "source": member.source,
                "metrics": dict(member.metrics),
                "training": dict(member.training),
                "file": _file(path),
            }
            for path, member in zip(paths, metadata, strict=True)
        ],
        "engine": ensemble.engine,
        "precision": ensemble.precision,
        "profiles": _profiles(detector) if detector is not None else [],
        "default_profile": detector.profile if detector is not None else None,
        "scoring": asdict(detector.scoring) if detector is not None else None,
        "precision_wanted": thresholds.precision if thresholds is not None else None,
        "loaded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "detection_classes": _classes(detector.classes) if detector is not None else [],
        "classification_classes": _classes(classifier.classes) if classifier is not None else [],
    }


def _profiles(detector: Detector) -> list[dict[str, Any]]:
    names = tuple(Profile) if detector.has_multibox else (Profile.SEARCH,)
    return [_profile(detector, name) for name in names]


def _profile(detector: Detector, name: Profile) -> dict[str, Any]:
    budget = detector.max_proposals or BUDGETS[name]
    cost = detector.cost(name, budget or _UNLIMITED_REGIONS_ESTIMATE)
    region_cost = detector.cost(name, 1) - detector.cost(name, 0)
    return {"name": name, "max_regions": budget, "cost": cost, "region_cost": region_cost}


def _classes(classes: ClassList) -> list[dict[str, str]]:
    return [{"id": class_id, "name": name} for class_id, name in zip(classes.ids, classes.names, strict=True)]


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": file_digest(file, "sha256").hexdigest(),
        }
