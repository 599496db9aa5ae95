"""Load weights files as something that runs."""

from collections.abc import Sequence
from pathlib import Path

from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.scoring import Scoring
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.options import Profile
from detector.pretrained import SHIPPED

Weights = str | Path | Sequence[str | Path] | None
"""One checkpoint, several that make an ensemble, or none: the shipped one."""


def load_checkpoints(weights: Weights = None) -> list[Checkpoint]:
    """Load the networks of one or more files, in order. Raises CheckpointError for a file that holds none."""
    if weights is None:
        weights = SHIPPED
    paths = [weights] if isinstance(weights, str | Path) else weights
    return [load_checkpoint(Path(path)) for path in paths]


def load_detector(
    weights: Weights = None,
    *,
    scoring: Scoring | None = None,
    device: str = "auto",
    precision: str = "auto",
    profile: Profile | str | None = None,
    max_proposals: int | None = None,
    compile: bool = False,
) -> Detector:
    """Load a Detector from a checkpoint, or an ensemble from several; the shipped one by default.

    ``scoring`` says how detections are made of the network's outputs, if not as the (first) checkpoint does.
    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``precision`` is ``auto``, ``float32``,
    ``bfloat16`` or ``float16``. ``profile`` says where to look (:class:`detector.options.Profile`), and
    ``max_proposals`` at how many boxes, if not as many as the profile is meant to. ``compile`` spends half a
    minute on a faster program: worth it from some hundred images on.

    Raises CheckpointError for a file that is no detector, or files that make no ensemble; ParameterError for
    a profile or scoring that they cannot serve.
    """
    return Detector(
        load_checkpoints(weights),
        scoring=scoring,
        device=device,
        precision=precision,
        profile=profile,
        max_proposals=max_proposals,
        compile=compile,
    )


def load_classifier(weights: Weights = None, *, device: str = "auto", precision: str = "auto") -> Classifier:
    """Load a Classifier of whole images from a checkpoint, or an ensemble; the shipped one by default."""
    return Classifier(load_checkpoints(weights), device=device, precision=precision)
