"""A model in the worker: its networks, warm, and what is to be told of it."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from api.worker.describing import describe
from api.worker.settings import WorkerSettings
from detector.classification import Classifier
from detector.detection import Detector
from detector.loading import load_checkpoints
from detector.pretrained import SHIPPED


@dataclass(frozen=True)
class LoadedModel:
    """What one name stands for.

    ``classifier`` is None for weights made for detection alone. ``described`` is what ``GET /models``
    tells, ``rate`` how many regions a second it may look at, if what prepares them keeps up.
    """

    detector: Detector
    classifier: Classifier | None
    described: dict[str, Any]
    rate: float


def load_model(name: str, settings: WorkerSettings) -> LoadedModel:
    """The model of that name in the settings, once a picture went all the way: compiled code and memory
    pools are in place before the first request.

    Raises CheckpointError or ParameterError for weights that cannot be used, or not as the settings say.
    """
    given = settings.models[name]
    paths = [Path(path) for path in given] if given is not None else [SHIPPED]
    checkpoints = load_checkpoints(paths)  # once: detector and classifier share the backbones' memory
    detector = Detector(
        checkpoints,
        device=settings.device,
        profile=settings.profile,
        max_proposals=settings.max_proposals,
        batch=settings.batch,
        compile=settings.compile,
    )
    classifier = None
    if all(checkpoint.metadata.classification is not None for checkpoint in checkpoints):
        classifier = Classifier(checkpoints, device=settings.device, batch=settings.batch)

    picture = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    detector.detect([picture])
    start = perf_counter()
    proposals = detector.propose(picture)
    proposed = perf_counter()
    detector.score(picture, proposals)
    regions = len(proposals.boxes) + 1
    rate = min(
        regions / (perf_counter() - proposed),
        settings.prepare_threads * regions / (proposed - start),
    )
    if classifier is not None:
        classifier.classify([picture], top=1)
    metadata = [checkpoint.metadata for checkpoint in checkpoints]
    return LoadedModel(detector, classifier, describe(name, paths, metadata, detector, classifier), rate)
