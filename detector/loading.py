"""From a weights file to something that runs."""

from pathlib import Path

from detector.checkpoints import load_checkpoint
from detector.classification import Classifier
from detector.detection import Detector
from detector.pretrained import SHIPPED
from detector.proposals import Profile


def load_detector(
    weights: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    profile: Profile | str | None = None,
    max_proposals: int | None = None,
) -> Detector:
    """A Detector from a checkpoint; the shipped one by default.

    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``precision`` is ``auto``, ``float32``,
    ``bfloat16`` or ``float16``. ``profile`` says where to look (:class:`detector.proposals.Profile`), and
    ``max_proposals`` at how many boxes, if not as many as the profile is meant to.

    Raises CheckpointError for a file that is no detector, ParameterError for a profile it cannot serve.
    """
    checkpoint = load_checkpoint(Path(weights) if weights is not None else SHIPPED)
    return Detector(
        checkpoint, device=device, precision=precision, profile=profile, max_proposals=max_proposals
    )


def load_classifier(
    weights: str | Path | None = None, *, device: str = "auto", precision: str = "auto"
) -> Classifier:
    """A Classifier of whole pictures from a checkpoint; the shipped one by default."""
    checkpoint = load_checkpoint(Path(weights) if weights is not None else SHIPPED)
    return Classifier(checkpoint, device=device, precision=precision)
