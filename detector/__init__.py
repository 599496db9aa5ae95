"""Object detection in the manner of R-CNN with a GoogLeNet backbone.

>>> from detector import load_detector
>>> detector = load_detector()
>>> print(detector.detect("street.jpg"))
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from detector.errors import CheckpointError, DatasetError, DetectorError, ImageError, ParameterError
from detector.temporary_folder import set_fallback_temporary_folder

if TYPE_CHECKING:
    from detector.inference.classifier import Classifier
    from detector.inference.detector import Detector
    from detector.inference.loading import load_classifier, load_detector
    from detector.inference.scoring import Scoring
    from detector.io.decoding import decode, load
    from detector.structures.detections import Classification, Detections
    from detector.structures.explanation import Explanation

    __version__: str

__all__ = [
    "CheckpointError",
    "Classification",
    "Classifier",
    "DatasetError",
    "Detections",
    "Detector",
    "DetectorError",
    "Explanation",
    "ImageError",
    "ParameterError",
    "Scoring",
    "__version__",
    "decode",
    "load",
    "load_classifier",
    "load_detector",
]

set_fallback_temporary_folder()  # torch is imported behind this

# Imported when first asked for: torch takes seconds, and half a gigabyte, which decoding pictures and serving
# HTTP do without.
_HOMES = {
    "Classification": "structures.detections",
    "Classifier": "inference.classifier",
    "Detections": "structures.detections",
    "Detector": "inference.detector",
    "Explanation": "structures.explanation",
    "Scoring": "inference.scoring",
    "decode": "io.decoding",
    "load": "io.decoding",
    "load_classifier": "inference.loading",
    "load_detector": "inference.loading",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("googlenet-detector")
    if name not in _HOMES:
        raise AttributeError(f"module 'detector' has no attribute {name!r}")
    return getattr(import_module(f"detector.{_HOMES[name]}"), name)
