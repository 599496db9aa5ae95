"""Verification of an exported graph: its outputs beside those of the network that it was made of.

Letters for shapes: R rows, C classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from detector.inference.graph_engine import run_model
from detector.inference.image_scales import scale_image
from detector.inference.numpy_arrays import NumpyArrays
from detector.inference.preprocessing import add_context
from detector.inference.region_crops import ImageView
from detector.inference.shared_maps import place_windows
from detector.io.decoding import RGB
from detector.models.metadata import Metadata
from detector.models.weights import Weights
from detector.structures.boxes import Boxes

Feeds = dict[str, NDArray[np.float32]]
"""Inputs of a graph by name."""

RunGraph = Callable[[Feeds], Mapping[str, NDArray[Any]]]

TOLERANCES = {"float32": 0.001, "float16": 0.03, "int8": 0.25}
"""The largest difference of a probability that is still the same network's."""

AGREEMENTS = {"float32": 0.999, "float16": 0.98, "int8": 0.9}
"""The least share of rows whose likeliest class stays."""

_WINDOWS = 32
_SURE = 0.1  # a likeliest class below that is any class


@dataclass(frozen=True)
class Comparison:
    """How two networks differ over some images: the largest difference of a probability, the share of
    ``rows`` that show something (more than 0.1 sure) whose likeliest class is the same, and the largest
    difference of each other output, in the units of the output."""

    largest: float
    agreement: float
    rows: int
    others: Mapping[str, float]


def compare(
    weights: Weights, classify: bool, images: Sequence[RGB], reference: RunGraph, exported: RunGraph
) -> Comparison:
    """Run both over images [H,W,3] as the network is used, at each of its scales, and compare all outputs."""
    largest, same, rows = 0.0, 0, 0
    others: dict[str, float] = {}
    for feeds in _feeds(weights.metadata, classify, images):
        expected, got = reference(feeds), exported(feeds)
        for name, value in expected.items():
            difference = float(np.abs(value - got[name]).max(initial=0))
            if not np.isfinite(difference):
                difference = largest = np.inf  # of any output: max() would pass over what is no number
            if not name.endswith("probabilities"):
                others[name] = max(others.get(name, 0.0), difference)
                continue
            largest = max(largest, difference)
            classes = value if classify else value[:, :-1]
            sure = classes.max(axis=1) > _SURE
            rows += int(sure.sum())
            same += int((value.argmax(axis=1) == got[name].argmax(axis=1))[sure].sum())
    return Comparison(largest, same / rows if rows else 1.0, rows, others)


def graph_runner(engine: str, model: onnx.ModelProto) -> RunGraph:
    """Return what runs a model by OpenVINO or ONNX Runtime."""
    return run_model(engine, model)


def _feeds(metadata: Metadata, classify: bool, images: Sequence[RGB]) -> Iterator[Feeds]:
    """Yield the inputs of a graph for images, as detector and classifier make them."""
    arrays, prepare, shared = NumpyArrays(), metadata.preprocessing, metadata.shared_maps
    for number, image in enumerate(images):
        view = ImageView(image, prepare)
        height, width = view.pixels.shape[:2]
        if classify:
            yield {"rows": view.crops(view.whole, prepare.size, arrays)}
            continue
        windows = _some_windows(width, height, number)
        if shared is None:
            yield {"rows": view.crops(add_context(windows, prepare), prepare.size, arrays)}
            continue
        for scale in shared.scales:
            scaled = scale_image(view.pixels, scale, shared, prepare, arrays)
            placed = place_windows(add_context(windows, prepare), scaled.factors, shared, prepare.size)
            yield {"image": scaled.pixels, "windows": placed}


def _some_windows(width: int, height: int, seed: int) -> Boxes:
    """Return windows [R,4] of all sizes, the same for each image of a size and a number."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(0.1), 0, (_WINDOWS, 2))) * (width, height)
    corners = rng.uniform(size=(_WINDOWS, 2)) * ((width, height) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
