"""Compile what numba compiles, by doing each once: the next process of this installation finds it done.

    python -m detector.precompile

Needs NumPy, numba, OpenCV and Pillow alone, so that it may run while the other packages are installed.
"""

import numpy as np

from detector.inference.numpy_arrays import NumpyArrays
from detector.proposals.selective_search.search import selective_search
from detector.structures.nms import suppress


def precompile() -> None:
    """Search an image of noise, suppress its boxes, cut them out of it and out of maps."""
    # Noise has many segments to merge: every function of selective search is called.
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    boxes = selective_search(noise).boxes
    suppress(boxes, np.ones(len(boxes), np.float32), max_iou=0.5)
    planes = np.ascontiguousarray(noise.transpose(2, 0, 1), np.float32)
    NumpyArrays().sample(planes, boxes, size=2)
    NumpyArrays().align(planes[None], boxes, size=2, scale=1)


if __name__ == "__main__":
    precompile()
