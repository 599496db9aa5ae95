"""Proposal methods by name, and running several of them over the same pictures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.errors import ParameterError
from detector.inference.detector import Detector
from detector.io.decoding import RGB
from detector.proposals.selective_search.search import RECIPES, selective_search
from detector.structures.proposals import Proposals

UNIONS = ("profile-balanced", "profile-paper")
"""Those of the methods below that join two sources."""


@dataclass(frozen=True)
class Method:
    """A way to propose boxes. ``images`` bounds how many it is run on: some are very slow."""

    name: str
    propose: Callable[[RGB], Proposals]
    images: int | None = None


@dataclass(frozen=True)
class MethodRun:
    """What a method gave, and the seconds it took, for each of the first pictures of a set."""

    name: str
    proposals: list[Proposals] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def median_seconds(self) -> float:
        """Seconds a picture; NaN before the first."""
        return float(np.median(self.seconds)) if self.seconds else float("nan")


def search_methods(**options: Any) -> dict[str, Method]:
    """Return selective search in all its modes: ``search-fast``, and ``search-fast-2x`` with larger
    superpixels.

    Superpixels of twice the size give half the boxes. ``options`` go to :func:`selective_search`.
    """
    methods = {}
    for mode in RECIPES:
        for suffix, scale in (("", 1.0), ("-2x", 2.0)):
            name = f"search-{mode}{suffix}"
            propose = partial(selective_search, mode=mode, superpixel_scale=scale, **options)
            methods[name] = Method(name, propose)
    return methods


def detector_methods(detector: Detector) -> dict[str, Method]:
    """Return ``multibox`` alone and the detector's profiles; none where its weights hold no MultiBox head."""
    if not detector.has_multibox:
        return {}
    methods = {"multibox": Method("multibox", detector.multibox)}
    for profile in ("fast", "balanced", "paper"):
        name = f"profile-{profile}"
        methods[name] = Method(name, partial(detector.propose, profile=profile))
    return methods


def chosen(names: Sequence[str], methods: dict[str, Method]) -> list[Method]:
    """Return the methods of these names, each once. Raises ParameterError for a name that is not among
    them."""
    for name in names:
        if name not in methods:
            raise ParameterError(
                f"unknown method {name!r}: use one of {', '.join(methods)}"
                + ("" if "multibox" in methods else " (the weights hold no MultiBox head)")
            )
    return [methods[name] for name in dict.fromkeys(names)]


def run_methods(methods: Sequence[Method], records: Sequence[AnnotatedImage]) -> list[MethodRun]:
    """Run every method on every picture, in turns: what else the machine does hits all alike.

    Each is run once before its time is taken, so that nothing is compiled or loaded within it.
    """
    runs = [MethodRun(method.name) for method in methods]
    for number, record in enumerate(tqdm(records, desc="proposals", unit="picture")):
        image = load_image(record)
        for method, run in zip(methods, runs, strict=True):
            if method.images is not None and number >= method.images:
                continue
            if number == 0:
                method.propose(image)
            start = time.perf_counter()
            found = method.propose(image)
            run.seconds.append(time.perf_counter() - start)
            run.proposals.append(found)
    return runs
