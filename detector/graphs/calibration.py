"""The pictures that a network is calibrated and verified on, and its ranges on them."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.errors import ImageError, ParameterError
from detector.graphs.networks import trunk_graph
from detector.graphs.quantization import Ranges, measure_ranges
from detector.inference.graph_engine import run_model
from detector.inference.image_scales import scale_image
from detector.inference.numpy_arrays import NumpyArrays
from detector.inference.placement import GRAPH_ENGINES, is_installed
from detector.inference.region_crops import ImageView
from detector.io.decoding import RGB, decode, load
from detector.io.image_paths import images_below
from detector.io.terminal_text import printable_path
from detector.models.metadata import Metadata
from detector.models.weights import Weights


def pictures_of(folder: Path | None, count: int) -> list[RGB]:
    """Return at most ``count`` pictures [H,W,3] spread over a folder and all below it; two that come with the
    package for None.

    What cannot be read is passed over. Raises ParameterError for a folder without pictures.
    """
    if folder is None:
        shipped = sorted((files("detector") / "data/pictures").iterdir(), key=lambda entry: entry.name)
        return [decode(entry.read_bytes()) for entry in shipped if entry.name.endswith(".jpg")]
    if not folder.is_dir():
        raise ParameterError(f"{printable_path(folder)} is no folder of pictures")
    paths = sorted(images_below(folder, lambda problem: None))
    order = np.random.default_rng(0).permutation(len(paths)).tolist()
    pictures: list[RGB] = []
    for index in order:
        if len(pictures) == count:
            break
        try:
            pictures.append(load(paths[index]))
        except (ImageError, OSError):
            continue
    if not pictures:
        raise ParameterError(f"{printable_path(folder)} holds no picture that can be read")
    return pictures


def measured(weights: Weights, pictures: Sequence[RGB]) -> Ranges:
    """Measure the ranges of a network's activations on pictures [H,W,3], at each scale that it sees them
    at."""
    engine = next(filter(is_installed, GRAPH_ENGINES))
    run = run_model(engine, trunk_graph(weights))
    seen = tqdm(pictures, desc="activations", unit="picture")
    return measure_ranges(weights, lambda image: run({"rows": image}), _as_seen(weights.metadata, seen))


def _as_seen(metadata: Metadata, pictures: Sequence[RGB]) -> Iterator[NDArray[np.float32]]:
    """Yield pictures as the trunk reads them: whole at each scale, or as one crop."""
    arrays, prepare, shared = NumpyArrays(), metadata.preprocessing, metadata.shared_maps
    for picture in pictures:
        view = ImageView(picture, prepare)
        if shared is None:
            yield view.crops(view.whole, prepare.size, arrays)
            continue
        for scale in shared.scales:
            yield scale_image(view.pixels, scale, shared, prepare, arrays).pixels
