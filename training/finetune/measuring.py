"""What a finished detector finds in the pictures held out, and how that figure gets into its checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.datasets.record import Record
from detector.evaluation.by_class import DetEvaluation, Rule, evaluate
from detector.inference.detector import Detector
from detector.models.checkpoint import load_checkpoint, save_checkpoint
from detector.structures.detections import Detections
from training.evaluating.run import Candidate, run_candidates


@dataclass(frozen=True)
class Measured:
    """Figures of one detector on the pictures held out, and the detections they come from.

    ``boxes`` and ``seconds`` are proposals and median seconds a picture.
    """

    name: str
    rule: str
    profile: str
    records: Sequence[Record]
    detections: Mapping[str, Detections]
    evaluation: DetEvaluation
    boxes: float
    seconds: float

    @property
    def measure(self) -> str:
        """What its mean AP is a measure of, in words."""
        return (
            f"held-out mAP by the {self.rule} rule, {self.profile}, {self.boxes:.0f} proposals, "
            f"{len(self.records)} pictures"
        )


def measure(detector: Detector, name: str, records: Sequence[Record], rule: Rule) -> Measured:
    """Look at every picture as the service would, by the detector's own profile, and judge the result."""
    (run,) = run_candidates([Candidate(detector)], [detector.profile], records)
    evaluation = evaluate(run.records, run.detections, len(detector.classes), rule)
    return Measured(
        name,
        rule.name,
        str(run.profile),
        run.records,
        run.detections,
        evaluation,
        run.boxes,
        float(np.median(run.seconds)),
    )


def note_figure(path: Path, measured: Measured) -> None:
    """Write the mean AP into the checkpoint's metadata."""
    checkpoint = load_checkpoint(path)
    metrics = {**checkpoint.metadata.metrics, measured.measure: round(measured.evaluation.mean_ap, 4)}
    save_checkpoint(path, replace(checkpoint, metadata=replace(checkpoint.metadata, metrics=metrics)))
