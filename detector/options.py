"""Options of a detector and their defaults.

Nothing here imports torch: what only passes options on starts at once.
"""

from enum import StrEnum
from typing import Literal

SCORE_THRESHOLD = 0.3
"""About where precision and recall of the shipped weights balance best on DET/val; evaluation uses 0.001."""

AUTO = "auto"

ScoreThreshold = float | Literal["auto"]
"""The least score of a detection that is kept, or ``auto``: of each class the one that was measured for these
weights (:class:`detector.inference.thresholds.Thresholds`)."""

MAX_DETECTIONS = 100

MAX_EXPLAINED = 20
"""Most detections of a picture that are explained: each is looked at once more."""

MIN_TILE = 64
"""Least side in pixels of a tile of a large image: less shows nothing."""


CROP_COST = 9
"""A crop that goes through the whole network takes as long as so many regions that are cut out of shared
maps, and so does an image for each crop's worth of its pixels (float32, AVX2: benchmarks/detection.py)."""


QUANTUM = 256
"""Regions, or what takes as long, that a client, or a request, may take on a device before it is another's
turn: those of the profiles that keep the best boxes fit. The service's estimates and turns go by it."""


class Engine(StrEnum):
    """What runs a network (:func:`detector.inference.placement.choose_engine`)."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class Precision(StrEnum):
    """What a network computes in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"


class Profile(StrEnum):
    """Which methods propose, how many of their boxes are looked at, and how.

    ``fast``: MultiBox alone. ``balanced``: both, the best boxes. ``thorough``: both, more boxes, and a larger
    look at the image, for small objects. ``paper``: both, all boxes, each warped and run through the whole
    network, as in 2014. ``search``: selective search alone, for weights without a MultiBox head.
    """

    FAST = "fast"
    BALANCED = "balanced"
    THOROUGH = "thorough"
    PAPER = "paper"
    SEARCH = "search"
