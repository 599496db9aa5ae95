"""From a weights file to something that runs."""

from pathlib import Path

from detector.checkpoints import load_checkpoint
from detector.classification import Classifier
from detector.detection import MAX_PROPOSALS, Detector
from detector.pretrained import SHIPPED


def load_detector(
    weights: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    max_proposals: int = MAX_PROPOSALS,
) -> Detector:
    """A Detector from a checkpoint; the shipped one by default.

    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``precision`` is ``auto``, ``float32``,
    ``bfloat16`` or ``float16``. Raises CheckpointError for a file that is no detector.
    """
    checkpoint = load_checkpoint(Path(weights) if weights is not None else SHIPPED)
    return Detector(checkpoint, device=device, precision=precision, max_proposals=max_proposals)


def load_classifier(
    weights: str | Path | None = None, *, device: str = "auto", precision: str = "auto"
) -> Classifier:
    """A Classifier of whole pictures from a checkpoint; the shipped one by default."""
    checkpoint = load_checkpoint(Path(weights) if weights is not None else SHIPPED)
    return Classifier(checkpoint, device=device, precision=precision)
