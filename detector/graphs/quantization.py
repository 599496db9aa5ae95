"""Calibration: how large the values between layers become on real images, which 8 bits have to know.

A convolution in 8 bits reads values in steps of a 255th of the largest. What is larger is cut off, so the
largest is not the maximum of all but a high quantile: a single bright cell must not make all steps coarse.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.graphs.networks import range_keys
from detector.graphs.stages import trunk_of
from detector.models.weights import Weights

Ranges = dict[str, tuple[float, float]]
"""The least and the greatest value by the name of a layer (:func:`detector.graphs.networks.range_keys`)."""

QUANTILE = 0.99999
"""The share of an image's values of a layer that are not cut off."""

RunTrunk = Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]
"""Runs :func:`detector.graphs.networks.trunk_graph` over images [1,3,H,W]."""


def measure_ranges(
    weights: Weights, run: RunTrunk, images: Iterable[NDArray[np.float32]], quantile: float = QUANTILE
) -> Ranges:
    """Return the ranges of a network's values over images [1,3,H,W], normalised and padded as it reads them.

    The greatest value of a layer is the largest of the images' quantiles. Raises ParameterError for no
    images."""
    keys = range_keys(trunk_of(weights.metadata.architecture))
    greatest = dict.fromkeys(keys, 0.0)
    count = 0
    for image in images:
        outputs = run(image)
        for key in keys:
            greatest[key] = max(greatest[key], _quantile(outputs[key], quantile))
        count += 1
    if not count:
        raise ParameterError("no image to measure activations on: name a folder that holds some")
    return {key: (0.0, max(high, 1e-6)) for key, high in greatest.items()}


def _quantile(values: NDArray[np.float32], share: float) -> float:
    """Return the value that a share of all values does not exceed."""
    flat = values.reshape(-1)
    place = min(int(np.ceil(share * len(flat))), len(flat)) - 1
    return float(np.partition(flat, place)[place])
