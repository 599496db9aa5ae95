"""Running a detector over a set by each of several profiles, as a user of it would.

Letters for shapes: R regions of one profile in one picture, U distinct regions of all profiles there.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.boxes import Boxes
from detector.datasets.record import Record
from detector.detection import Detector, RegionScores
from detector.evaluation.by_class import DetEvaluation
from detector.evaluation.ilsvrc_det import evaluate_det
from detector.evaluation.proposal_figures import ALL
from detector.evaluation.proposal_table import percent
from detector.evaluation.recall import proposal_recall
from detector.evaluation.text_table import aligned
from detector.images import load
from detector.proposals import Profile, Proposals, Source
from detector.results import Detections

SCORE_THRESHOLD = 0.001
MAX_DETECTIONS = 1000


@dataclass(frozen=True)
class ProfileRun:
    """What a detector found by one profile: proposals and detections, and the seconds they took a picture."""

    detector: Detector
    profile: Profile
    proposals: list[Boxes] = field(default_factory=list)
    detections: dict[str, Detections] = field(default_factory=dict)
    proposal_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Detector and profile."""
        return f"{self.detector.name}, {self.profile}"

    @property
    def boxes(self) -> float:
        """Proposals a picture."""
        return float(np.mean([len(boxes) for boxes in self.proposals]))

    def evaluate(
        self, records: Sequence[Record], blacklist: Collection[tuple[str, int]] = frozenset()
    ) -> DetEvaluation:
        """The figures by the rule of ILSVRC."""
        return evaluate_det(records, self.detections, len(self.detector.classes), blacklist)


def run_profiles(
    detector: Detector,
    profiles: Sequence[Profile],
    records: Sequence[Record],
    max_proposals: int | None = None,
) -> list[ProfileRun]:
    """Find objects in every picture by every profile, with as many boxes as it is meant to, or so many.

    The network sees each distinct region of a picture once, whichever profiles propose it; a profile's
    seconds are those of its proposals, of as many regions as it has, and of the selection among them.
    """
    runs = [ProfileRun(detector, profile) for profile in profiles]
    for record in tqdm(records, desc=detector.name, unit="picture"):
        image = load(record.path)
        for run in runs:
            start = time.perf_counter()
            run.proposals.append(detector.propose(image, run.profile, max_proposals).boxes)
            run.proposal_seconds.append(time.perf_counter() - start)

        boxes, rows = distinct([run.proposals[-1] for run in runs])
        start = time.perf_counter()
        scores = detector.score(image, Proposals.of(boxes, Source.SELECTIVE_SEARCH))
        a_region = (time.perf_counter() - start) / max(len(boxes), 1)

        for run, mine in zip(runs, rows, strict=True):
            start = time.perf_counter()
            run.detections[record.image_id] = detector.select(
                RegionScores(scores.boxes[mine], scores.probabilities[mine]),
                score_threshold=SCORE_THRESHOLD,
                max_detections=MAX_DETECTIONS,
            )
            selecting = time.perf_counter() - start
            run.seconds.append(run.proposal_seconds[-1] + len(mine) * a_region + selecting)
    return runs


def distinct(parts: Sequence[Boxes]) -> tuple[Boxes, list[NDArray[np.int64]]]:
    """The distinct boxes [U,4] of several parts [R,4], and for each part its rows [R] among them."""
    boxes, rows = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    ends = np.cumsum([len(part) for part in parts])
    return boxes, np.split(rows.reshape(-1), ends[:-1])


def profile_table(measured: Sequence[tuple[ProfileRun, DetEvaluation]], truth: Sequence[Boxes]) -> str:
    """One line a run: mAP, boxes a picture and what they cover, median seconds, in all and for proposals."""
    rows = [["", "mAP %", "boxes", "recall@0.5", "recall@0.7", "s/picture", "proposals"]]
    for run, evaluation in measured:
        covered = proposal_recall(truth, run.proposals, budgets=[ALL])
        rows.append(
            [
                run.name,
                f"{100 * evaluation.mean_ap:.2f}",
                f"{run.boxes:.0f}",
                *percent([covered.recall_at(0.5)[0], covered.recall_at(0.7)[0]]),
                f"{np.median(run.seconds):.3f}",
                f"{np.median(run.proposal_seconds):.3f}",
            ]
        )
    return aligned(rows)
