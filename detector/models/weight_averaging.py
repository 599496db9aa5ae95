"""The mean of two trainings of one network, weight by weight.

Where one network was trained on from the other, their mean is often better than either, on other pictures
than those of the training above all (Wortsman et al., arXiv 2109.01903).
"""

from dataclasses import replace
from typing import Any

import numpy as np

from detector.errors import CheckpointError, ParameterError
from detector.models.weights import REAL, Weights

_WHOLE = "backbone.whole."  # the linear classifier of whole images


def average_weights(first: Weights, second: Weights, share: float = 0.5) -> Weights:
    """Return ``first`` with each number moved by ``share`` (0..1) of the way to that of ``second``.

    The metadata are those of ``first``, the second training added to ``averaged_with`` among its trainings;
    what was measured with its numbers is left out: metrics, thresholds, the ranges for 8 bits. A linear
    classifier of whole images that only one has stays as it is. Raises ParameterError for a share outside its
    range, CheckpointError where the two are no trainings of one network: other classes, tensors or shapes.
    """
    if not 0 <= share <= 1:
        raise ParameterError(f"share must be a number in 0..1, got {share!r}")
    a, b = first.metadata, second.metadata
    for what in ("architecture", "classification", "detection", "multibox", "shared_maps", "preprocessing"):
        if getattr(a, what) != getattr(b, what):
            raise _different(first, second, f"their {what.replace('_', ' ')} differs")
    alone = first.tensors.keys() ^ second.tensors.keys()
    lacking = sorted(name for name in alone if not name.startswith(_WHOLE))
    if lacking:
        raise _different(first, second, f"only one of them has {lacking[0]!r}")
    tensors: dict[str, Any] = {}
    for name, value in {**second.tensors, **first.tensors}.items():
        if name in alone:
            tensors[name] = value
            continue
        other = second.tensors[name]
        if value.shape != other.shape:
            raise _different(first, second, f"{name!r} has other shapes")
        if value.dtype.name in REAL:
            mean = value.astype(np.float32) * (1 - share) + other.astype(np.float32) * share
            tensors[name] = mean.astype(value.dtype)
        elif np.array_equal(value, other):
            tensors[name] = value
        else:
            raise _different(first, second, f"{name!r} differs")
    before = a.training.get("averaged_with", [])
    before = before if isinstance(before, list) else [before]
    training = {**a.training, "averaged_with": [*before, {"share": share, **b.training}]}
    metadata = replace(a, training=training, metrics={}, thresholds=None, activation_ranges=None)
    return Weights(metadata, tensors, first.source)


def _different(first: Weights, second: Weights, why: str) -> CheckpointError:
    return CheckpointError(
        f"{first.source} and {second.source} are no trainings of one network: {why}; give a checkpoint and "
        "one that was trained on from it"
    )
