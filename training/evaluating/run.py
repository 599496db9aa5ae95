"""Running a detector over a set by several profiles, scorings and sizes of an ensemble, as a user would.

Letters for shapes: R regions of one profile in one picture, U distinct regions of all profiles there.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.pixels import load_image
from detector.errors import DatasetError, ImageError
from detector.inference.detector import Detector
from detector.inference.postprocess import RegionScores
from detector.inference.scoring import Scoring
from detector.io.terminal_text import utf8_text
from detector.options import Profile
from detector.structures.boxes import Boxes, clip
from detector.structures.detections import Detections
from detector.structures.proposals import Proposals, Source
from training.evaluating.cache import DetectionCache, Found
from training.evaluating.tail_clock import TailClock

SCORE_THRESHOLD = 0.001
MAX_DETECTIONS = 1000

CacheOf = Callable[["ProfileRun"], DetectionCache]


@dataclass(frozen=True)
class ProfileRun:
    """What a detector found by one profile: proposals and detections, and the seconds they took a picture.

    ``records`` are the pictures it looked at, in the order of the lists: all that could still be read.

    ``scoring_name`` tells apart runs of the same weights under several scorings, ``title`` those of weights
    that have one name, and of the first so many members of an ensemble.
    """

    detector: Detector
    profile: Profile
    scoring_name: str = ""
    title: str = ""
    records: list[AnnotatedImage] = field(default_factory=list)
    proposals: list[Boxes] = field(default_factory=list)
    detections: dict[str, Detections] = field(default_factory=dict)
    proposal_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Detector, profile and scoring."""
        title = self.title or self.detector.name
        return ", ".join(filter(None, [title, str(self.profile), self.scoring_name]))

    @property
    def boxes(self) -> float:
        """Proposals a picture."""
        return float(np.mean([len(boxes) for boxes in self.proposals]))

    def add(self, record: AnnotatedImage, found: Found) -> None:
        """Take note of one more picture."""
        self.records.append(record)
        self.proposals.append(found.proposals)
        self.detections[record.image_id] = found.detections
        self.proposal_seconds.append(found.proposal_seconds)
        self.seconds.append(found.seconds)


def run_profiles(
    detector: Detector,
    profiles: Sequence[Profile],
    records: Sequence[AnnotatedImage],
    max_proposals: int | None = None,
) -> list[ProfileRun]:
    """Find objects in every picture by every profile, as :func:`run_scorings` does by one scoring."""
    return run_scorings({"": detector}, profiles, records, max_proposals)


def run_scorings(
    detectors: Mapping[str, Detector],
    profiles: Sequence[Profile],
    records: Sequence[AnnotatedImage],
    max_proposals: int | None = None,
    cache_of: CacheOf | None = None,
    titles: Mapping[int, str] | None = None,
) -> list[ProfileRun]:
    """Find objects in every picture by every profile, with as many boxes as it is meant to, or so many.

    ``detectors`` are the same weights under scorings with those names. ``titles`` says how many of their
    first members are run as an ensemble, and what a run of so many is called; if not given, all members are.
    Every network sees each distinct region of a picture once (and mirrored, if a scoring wants that, once
    more), whichever profiles propose it and in whichever ensembles the network is. Only second looks
    (``Scoring.refine``) are each run's own, for each has moved its boxes elsewhere.

    The seconds of a run are those of its proposals, of as many regions as it has, and of all that its scoring
    does to them; a region's seconds are those measured, less the stages of members that the run leaves out.
    With ``cache_of`` what a run finds in a picture is kept, and taken from there if it was.

    A picture that can no longer be read is named and left out. Raises DatasetError if none can be read.
    """
    runs = [
        ProfileRun(part, profile, name, title)
        for name, detector in detectors.items()
        for title, part in _parts(detector, titles)
        for profile in profiles
    ]
    caches = [cache_of(run) if cache_of is not None else None for run in runs]
    for record in tqdm(records, desc=runs[-1].title or runs[-1].detector.name, unit="picture"):
        kept = [cache.get(record.path) if cache is not None else None for cache in caches]
        missing = [run for run, found in zip(runs, kept, strict=True) if found is None]
        try:
            made = iter(_look(missing, load_image(record), max_proposals) if missing else [])
        except ImageError as error:
            tqdm.write(utf8_text(f"left out {record.image_id}: {error}"))
            continue
        for run, cache, found in zip(runs, caches, kept, strict=True):
            if found is None:
                found = next(made)
                if cache is not None:
                    cache.put(record.path, found)
            run.add(record, found)
    if records and not runs[0].records:
        raise DatasetError(f"none of the {len(records)} pictures to measure on can be read any more")
    return runs


def _parts(detector: Detector, titles: Mapping[int, str] | None) -> list[tuple[str, Detector]]:
    """Title and detector for every number of members, the detector itself for all."""
    if titles is None:
        return [("", detector)]
    return [
        (title, detector if count == len(detector.members) else detector.first(count))
        for count, title in titles.items()
    ]


def _look(runs: Sequence[ProfileRun], image: NDArray[np.uint8], max_proposals: int | None) -> list[Found]:
    """What each run finds in one picture [H,W,3]."""
    proposals: dict[Profile, tuple[Proposals, float]] = {}
    for run in runs:
        if run.profile not in proposals:
            start = time.perf_counter()
            mine = run.detector.propose(image, run.profile, max_proposals)
            proposals[run.profile] = mine, time.perf_counter() - start

    boxes, rows = distinct([mine.boxes for mine, _ in proposals.values()])
    rows_of = dict(zip(proposals, rows, strict=True))
    seen = Proposals.of(boxes, Source.SELECTIVE_SEARCH)
    looks: dict[tuple[bool, int], tuple[RegionScores, float]] = {}
    for flip in {run.detector.scoring.flip for run in runs}:
        alike = [run.detector for run in runs if run.detector.scoring.flip == flip]
        for count, regions, seconds in _each_size(alike, image, seen):
            looks[flip, count] = regions, seconds / max(len(boxes), 1)

    found = []
    for run in runs:
        scores, a_region = looks[run.detector.scoring.flip, len(run.detector.members)]
        mine, proposing = proposals[run.profile]
        start = time.perf_counter()
        detections = _detections(run.detector, image, scores.rows(rows_of[run.profile]), mine)
        seconds = proposing + len(mine) * a_region + time.perf_counter() - start
        found.append(Found(detections, mine.boxes, proposing, seconds))
    return found


def _each_size(
    detectors: Sequence[Detector], image: NDArray[np.uint8], regions: Proposals
) -> list[tuple[int, RegionScores, float]]:
    """How many members, what so many say of all regions of a picture [H,W,3], and the seconds they need."""
    counts = sorted({len(one.members) for one in detectors})
    looking = _looking(detectors)
    with TailClock(looking.tails if len(counts) > 1 else []) as clock:
        start = time.perf_counter()
        scores = looking.score_first(counts, image, regions)
        seconds = time.perf_counter() - start
    return [
        (count, mine, seconds - sum(clock.seconds[count:]))
        for count, mine in zip(counts, scores, strict=True)
    ]


def _looking(detectors: Sequence[Detector]) -> Detector:
    """The detector whose word on regions serves all, which are the same but for their scoring, or the first
    members of it."""
    looking = copy.copy(max(detectors, key=lambda one: len(one.members)))
    scorings = [one.scoring for one in detectors]
    looking.scoring = Scoring(
        flip=scorings[0].flip, context_power=max(scoring.context_power for scoring in scorings)
    )
    return looking


def _detections(
    detector: Detector, image: NDArray[np.uint8], regions: RegionScores, proposals: Proposals
) -> Detections:
    """From regions as they were seen and moved to what this detector makes of them."""
    height, width = image.shape[:2]
    boxes = regions.boxes if detector.scoring.box_regression else clip(proposals.boxes, width, height)
    regions = detector.refine(image, replace(regions, boxes=boxes, proposals=proposals))
    return detector.select(regions, score_threshold=SCORE_THRESHOLD, max_detections=MAX_DETECTIONS)


def distinct(parts: Sequence[Boxes]) -> tuple[Boxes, list[NDArray[np.int64]]]:
    """The distinct boxes [U,4] of several parts [R,4], and for each part its rows [R] among them."""
    boxes, rows = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    ends = np.cumsum([len(part) for part in parts])
    return boxes, np.split(rows.reshape(-1), ends[:-1])
