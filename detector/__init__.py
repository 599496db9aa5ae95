"""Object detection in the manner of R-CNN with a GoogLeNet backbone.

>>> from detector import load, load_detector
>>> detector = load_detector()
>>> detections = detector.detect([load("street.jpg")])[0]
>>> detections.as_dicts(detector.classes)
"""

from detector.classification import Classifier
from detector.detection import Detector
from detector.errors import CheckpointError, DatasetError, DetectorError, ImageError, ParameterError
from detector.images import decode, load
from detector.loading import load_classifier, load_detector
from detector.results import Classification, Detections
from detector.scoring import Scoring

__all__ = [
    "CheckpointError",
    "Classification",
    "Classifier",
    "DatasetError",
    "Detections",
    "Detector",
    "DetectorError",
    "ImageError",
    "ParameterError",
    "Scoring",
    "decode",
    "load",
    "load_classifier",
    "load_detector",
]
