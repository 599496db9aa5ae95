"""What to tell of a model, made where its weights are loaded."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any

from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.models.metadata import Metadata
from detector.options import Profile
from detector.proposals.profiles import BUDGETS
from detector.structures.classes import ClassList


def describe(
    name: str,
    paths: Sequence[Path],
    metadata: Sequence[Metadata],
    detector: Detector | None,
    classifier: Classifier | None,
) -> dict[str, Any]:
    """What to tell of a model just loaded, as JSON knows it: a :class:`api.frontend.models.Model`.

    ``paths`` and ``metadata`` are of the members' checkpoints, in order. Reads the files for their digests.
    """
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
        "profiles": _profiles(detector) if detector is not None else [],
        "default_profile": detector.profile if detector is not None else None,
        "scoring": asdict(detector.scoring) if detector is not None else None,
        "loaded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "detection_classes": _classes(detector.classes) if detector is not None else [],
        "classification_classes": _classes(classifier.classes) if classifier is not None else [],
    }


def _profiles(detector: Detector) -> list[dict[str, Any]]:
    names = tuple(Profile) if detector.has_multibox else (Profile.SEARCH,)
    return [{"name": name, "max_regions": detector.max_proposals or BUDGETS[name]} for name in names]


def _classes(classes: ClassList) -> list[dict[str, str]]:
    return [{"id": one, "name": name} for one, name in zip(classes.ids, classes.names, strict=True)]


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": file_digest(file, "sha256").hexdigest(),
        }
