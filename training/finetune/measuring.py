"""What a finished detector finds in the pictures held out, and how that figure gets into its checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage
from detector.evaluation.det_evaluation import DetEvaluation, evaluate
from detector.evaluation.matching import Rule
from detector.evaluation.thresholds import PRECISION, measure_thresholds
from detector.inference.detector import Detector
from detector.inference.thresholds import Thresholds
from detector.structures.detections import Detections
from training.evaluating.run import Candidate, run_candidates


@dataclass(frozen=True)
class Measured:
    """Figures of one detector on the pictures held out, and the detections they come from.

    ``boxes`` and ``seconds`` are proposals and median seconds a picture. ``thresholds`` are those of the
    precision that was wanted.
    """

    name: str
    rule: str
    profile: str
    records: Sequence[AnnotatedImage]
    detections: Mapping[str, Detections]
    evaluation: DetEvaluation
    boxes: float
    seconds: float
    thresholds: Thresholds

    @property
    def measure(self) -> str:
        """What its mean AP is a measure of, in words."""
        return (
            f"held-out mAP by the {self.rule} rule, {self.profile}, {self.boxes:.0f} proposals, "
            f"{len(self.records)} pictures"
        )


def measure(
    detector: Detector, name: str, records: Sequence[AnnotatedImage], rule: Rule, precision: float = PRECISION
) -> Measured:
    """Look at every picture as the service would, by the detector's own profile, and judge the result;
    ``precision`` is the share that is wanted right."""
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
        measure_thresholds(
            evaluation, precision, f"{len(run.records)} pictures held out, {rule.name} rule, {run.profile}"
        ),
    )
