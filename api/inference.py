"""Who runs the network: one thread owns it, and requests wait for their turn.

Routes know :class:`Inference` only, so that a scheduler which puts regions of many requests into one batch
can take the place of :class:`SingleWorker`.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from api.describing import describe
from api.errors import ApiError, not_ready
from detector.classification import Classifier
from detector.detection import Detector
from detector.loading import load_checkpoints
from detector.pretrained import SHIPPED
from detector.proposals import Profile

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What the network found, as it goes into the reply, and the milliseconds that each step took."""

    items: list[dict[str, Any]]
    model: str
    timing_ms: dict[str, float]


class Inference(Protocol):
    """What the service asks of whatever runs the network. Pictures are uint8 [H,W,3] RGB, upright."""

    @property
    def ready(self) -> bool:
        """Whether the weights are loaded and have answered once."""

    async def load(self) -> None:
        """Load the weights and warm up. Raises CheckpointError or ParameterError where that cannot be."""

    async def detect(
        self,
        image: NDArray[np.uint8],
        *,
        profile: Profile | None,
        score_threshold: float,
        max_detections: int,
    ) -> Answer:
        """Objects of one picture; timing of ``proposals`` and ``classify``.

        Raises ApiError for a profile that the weights cannot serve.
        """

    async def classify(self, image: NDArray[np.uint8], *, top: int, crops: int) -> Answer:
        """Classes of one picture; timing of ``classify``. Raises ApiError if the weights detect only."""

    def models(self) -> list[dict[str, Any]]:
        """The models loaded, as /models shows them. Raises ApiError until they are."""

    def close(self) -> None:
        """Finish the work under way, refuse the rest."""


@dataclass(frozen=True)
class _Models:
    detector: Detector
    classifier: Classifier | None  # None: the weights were made for detection alone
    description: dict[str, Any]


class SingleWorker:
    """An :class:`Inference` of one thread, which loads the weights and is the only one to use them."""

    def __init__(
        self,
        weights: Path | Sequence[Path] | None = None,
        *,
        device: str = "auto",
        profile: Profile | None = None,
        max_proposals: int | None = None,
        threads: int = 0,
    ) -> None:
        """Several ``weights`` make an ensemble, none are the shipped ones. ``threads`` are the CPU threads of
        the network; 0 leaves their number to torch.
        """
        self._weights = weights
        self._device = device
        self._profile = profile
        self._max_proposals = max_proposals
        self._threads = threads
        self._models: _Models | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    @property
    def ready(self) -> bool:
        return self._models is not None

    async def load(self) -> None:
        self._models = await self._in_thread(self._load)

    async def detect(
        self,
        image: NDArray[np.uint8],
        *,
        profile: Profile | None,
        score_threshold: float,
        max_detections: int,
    ) -> Answer:
        detector = self._ready_models().detector
        if profile not in (None, Profile.SEARCH) and not detector.has_multibox:
            raise ApiError(
                501,
                "not_supported",
                "The loaded weights have no MultiBox head. Leave profile out, or ask for profile=search.",
            )
        return await self._in_thread(
            lambda: _detect(detector, image, profile, score_threshold, max_detections)
        )

    async def classify(self, image: NDArray[np.uint8], *, top: int, crops: int) -> Answer:
        classifier = self._ready_models().classifier
        if classifier is None:
            raise ApiError(
                501,
                "not_supported",
                "The loaded weights detect only. Load weights that classify, or POST /detect.",
            )
        return await self._in_thread(lambda: _classify(classifier, image, top, crops))

    def models(self) -> list[dict[str, Any]]:
        return [self._ready_models().description]

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _ready_models(self) -> _Models:
        if self._models is None:
            raise not_ready()
        return self._models

    def _load(self) -> _Models:
        if self._threads:
            torch.set_num_threads(self._threads)
        checkpoints = load_checkpoints(self._weights)  # once: both share the backbones' memory
        detector = Detector(
            checkpoints, device=self._device, profile=self._profile, max_proposals=self._max_proposals
        )
        classifier = None
        if all(checkpoint.metadata.classification is not None for checkpoint in checkpoints):
            classifier = Classifier(checkpoints, device=self._device)
        _warm_up(detector, classifier)
        paths = [SHIPPED] if self._weights is None else self._weights
        paths = [paths] if isinstance(paths, Path) else list(paths)
        metadata = [checkpoint.metadata for checkpoint in checkpoints]
        return _Models(detector, classifier, describe("default", paths, metadata, detector, classifier))


def _detect(
    detector: Detector,
    image: NDArray[np.uint8],
    profile: Profile | None,
    score_threshold: float,
    max_detections: int,
) -> Answer:
    start = perf_counter()
    proposals = detector.propose(image, profile)
    proposed = perf_counter()
    regions = detector.refine(image, detector.score(image, proposals))
    found = detector.select(regions, score_threshold=score_threshold, max_detections=max_detections)
    timing = {
        "proposals": milliseconds(proposed - start),
        "classify": milliseconds(perf_counter() - proposed),
    }
    return Answer(found.as_dicts(detector.classes), detector.name, timing)


def _classify(classifier: Classifier, image: NDArray[np.uint8], top: int, crops: int) -> Answer:
    start = perf_counter()
    [best] = classifier.classify([image], top=min(top, len(classifier.classes)), crops=crops)
    timing = {"classify": milliseconds(perf_counter() - start)}
    return Answer(best.as_dicts(classifier.classes), classifier.name, timing)


def _warm_up(detector: Detector, classifier: Classifier | None) -> None:
    """One picture all the way: compiled code and memory pools are in place before the first request."""
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    _detect(detector, image, profile=None, score_threshold=0.0, max_detections=1)
    if classifier is not None:
        _classify(classifier, image, top=1, crops=1)


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds with one decimal, as replies state them."""
    return round(seconds * 1000, 1)
