"""Load weights files as something that runs."""

from collections.abc import Sequence
from pathlib import Path

from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.ensemble import Ensemble
from detector.inference.placement import place
from detector.inference.scoring import Scoring
from detector.models.weights import read_weights
from detector.options import Profile
from detector.pretrained import SHIPPED

WeightsFiles = str | Path | Sequence[str | Path] | None
"""One checkpoint, several that make an ensemble, or none: the shipped one."""


def load_ensemble(
    weights: WeightsFiles = None,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    streams: int | None = None,
) -> Ensemble:
    """Load the networks of one or more files, in order (:func:`detector.inference.placement.place`).

    Raises CheckpointError for a file that holds none, ParameterError for an engine, device or precision that
    is not there.
    """
    if weights is None:
        weights = SHIPPED
    paths = [weights] if isinstance(weights, str | Path) else weights
    networks = [read_weights(Path(path)) for path in paths]
    return place(networks, engine=engine, device=device, precision=precision, streams=streams)


def load_detector(
    weights: WeightsFiles = None,
    *,
    scoring: Scoring | None = None,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    profile: Profile | str | None = None,
    max_proposals: int | None = None,
    compile: bool = False,
) -> Detector:
    """Load a Detector from a checkpoint, or an ensemble from several; the shipped one by default.

    ``scoring`` says how detections are made of the network's outputs, if not as the (first) checkpoint does.
    ``engine`` is ``auto``, ``torch``, ``openvino`` or ``onnxruntime``; ``device`` is ``auto``, ``cpu``,
    ``cuda`` or ``cuda:N``; ``precision`` is ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8``.
    ``profile`` says where to look (:class:`detector.options.Profile`), and ``max_proposals`` at how many
    boxes, if not as many as the profile is meant to. ``compile`` spends half a minute on a faster program of
    torch's: worth it from some hundred images on.

    Raises CheckpointError for a file that is no detector, or files that make no ensemble; ParameterError for
    a profile or scoring that they cannot serve, or an engine that is not there.
    """
    return Detector(
        load_ensemble(weights, engine=engine, device=device, precision=precision),
        scoring=scoring,
        profile=profile,
        max_proposals=max_proposals,
        compile=compile,
    )


def load_classifier(
    weights: WeightsFiles = None, *, engine: str = "auto", device: str = "auto", precision: str = "auto"
) -> Classifier:
    """Load a Classifier of whole images from a checkpoint, or an ensemble; the shipped one by default."""
    return Classifier(load_ensemble(weights, engine=engine, device=device, precision=precision))
