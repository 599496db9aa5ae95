"""Running detectors over a set by several profiles, scorings and sizes of an ensemble, as a user would.

Letters for shapes: R regions of one profile in one image, U distinct regions of all profiles there.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.errors import DatasetError, ImageError
from detector.inference.detector import Detector
from detector.inference.ensemble import RegionPrediction, average
from detector.inference.postprocess import score_regions
from detector.inference.preprocessing import Preprocessing
from detector.inference.region_crops import ImageView
from detector.inference.scoring import Scoring
from detector.io.terminal_text import utf8_text
from detector.options import Profile
from detector.structures.boxes import Boxes
from detector.structures.detections import Detections
from detector.structures.proposals import Proposals
from training.evaluating.cache import DetectionCache, Found

SCORE_THRESHOLD = 0.001
MAX_DETECTIONS = 1000

CacheOf = Callable[["ProfileRun"], DetectionCache]


@dataclass(frozen=True)
class Candidate:
    """A detector to run: some weights, or the first so many members of an ensemble, under one scoring.

    ``scoring_name`` tells apart candidates of the same weights under several scorings, ``title`` those of
    weights that have one name, and of the sizes of an ensemble. ``cost`` is how long it takes for a region,
    by what the largest candidate takes.
    """

    detector: Detector
    scoring_name: str = ""
    title: str = ""
    cost: float = 1.0


@dataclass(frozen=True)
class ProfileRun:
    """What a candidate found by one profile: proposals and detections, and the seconds they took an image.

    ``records`` are the images it looked at, in the order of the lists: all that could still be read.
    """

    candidate: Candidate
    profile: Profile
    records: list[AnnotatedImage] = field(default_factory=list)
    proposals: list[Boxes] = field(default_factory=list)
    detections: dict[str, Detections] = field(default_factory=dict)
    proposal_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def detector(self) -> Detector:
        """The candidate's detector."""
        return self.candidate.detector

    @property
    def scoring(self) -> Scoring:
        """How the detector scores."""
        return self.detector.scoring

    @property
    def outputs_key(self) -> tuple[Preprocessing, bool, bool]:
        """How large images are looked at, whether regions are warped, and whether each is also seen mirrored:
        runs alike share outputs."""
        steps = self.detector.steps(self.profile)
        return steps.preprocessing, steps.warps, self.scoring.flip

    @property
    def name(self) -> str:
        """Detector, profile and scoring."""
        title = self.candidate.title or self.detector.name
        return ", ".join(filter(None, [title, str(self.profile), self.candidate.scoring_name]))

    @property
    def boxes(self) -> float:
        """The mean number of proposals an image."""
        return float(np.mean([len(boxes) for boxes in self.proposals]))

    def add(self, record: AnnotatedImage, found: Found) -> None:
        """Take note of one more image."""
        self.records.append(record)
        self.proposals.append(found.proposals)
        self.detections[record.image_id] = found.detections
        self.proposal_seconds.append(found.proposal_seconds)
        self.seconds.append(found.seconds)


def run_candidates(
    candidates: Sequence[Candidate],
    profiles: Sequence[Profile],
    records: Sequence[AnnotatedImage],
    max_proposals: int | None = None,
    cache_of: CacheOf | None = None,
    tile: int | None = None,
) -> list[ProfileRun]:
    """Find objects in every image by every profile, with as many boxes as it is meant to, or so many.

    With ``tile`` larger images are also looked at in overlapping squares of so many pixels a side.

    The candidates are the same weights under several scorings, or the first so many of the same members, of
    which the largest candidate has all and proposes for all. Every network sees each distinct region of an
    image once (and mirrored, if a scoring wants that, once more), whichever profiles propose it: raw outputs
    are averaged for each size and scored by each scoring afterwards.

    The seconds of a run are those of its proposals, of as many regions as it has, at the measured seconds a
    region times the candidate's ``cost``, and of all that its scoring does to them. With ``cache_of`` what a
    run finds in an image is kept, and taken from there if it was.

    An image that can no longer be read is named and left out. Raises DatasetError if none can be read.
    """
    runs = [ProfileRun(candidate, profile) for candidate in candidates for profile in profiles]
    largest = _largest(candidates)
    caches = [cache_of(run) if cache_of is not None else None for run in runs]
    for record in tqdm(records, desc=runs[-1].candidate.title or largest.name, unit="picture"):
        kept = [cache.get(record.path) if cache is not None else None for cache in caches]
        missing = [run for run, found in zip(runs, kept, strict=True) if found is None]
        try:
            made = iter(_find(missing, largest, load_image(record), max_proposals, tile) if missing else [])
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


def with_costs(
    candidates: Sequence[Candidate], image: NDArray[np.uint8], *, rounds: int = 3
) -> list[Candidate]:
    """Return the candidates with their costs, measured on the regions of one image [H,W,3]: medians of so
    many rounds. Candidates of as many members cost the same."""
    largest = _largest(candidates)
    boxes = largest.propose(image).boxes
    by_size = {len(candidate.detector.members): candidate.detector for candidate in candidates}
    if len(by_size) == 1:
        return list(candidates)
    seconds: dict[int, list[float]] = {size: [] for size in by_size}
    for _ in range(rounds):
        for size, detector in by_size.items():
            start = time.perf_counter()
            detector.predict(image, boxes)
            seconds[size].append(time.perf_counter() - start)
    whole = median(seconds[len(largest.members)])
    return [
        replace(candidate, cost=median(seconds[len(candidate.detector.members)]) / whole)
        for candidate in candidates
    ]


def _largest(candidates: Sequence[Candidate]) -> Detector:
    """Return the detector of all members."""
    return max((candidate.detector for candidate in candidates), key=lambda loaded: len(loaded.members))


def _find(
    runs: Sequence[ProfileRun],
    largest: Detector,
    image: NDArray[np.uint8],
    max_proposals: int | None,
    tile: int | None,
) -> list[Found]:
    """Return what each run finds in one image [H,W,3]."""
    if tile is not None:
        return [_find_in_tiles(run, largest, image, max_proposals, tile) for run in runs]
    found: dict[int, Found] = {}
    for key in dict.fromkeys(run.outputs_key for run in runs):
        alike = [index for index, run in enumerate(runs) if run.outputs_key == key]
        parts = _find_alike([runs[index] for index in alike], largest, image, max_proposals)
        found |= dict(zip(alike, parts, strict=True))
    return [found[index] for index in range(len(runs))]


def _find_in_tiles(
    run: ProfileRun, largest: Detector, image: NDArray[np.uint8], max_proposals: int | None, tile: int
) -> Found:
    """Return what a run finds in an image [H,W,3] and its tiles; the proposals are those of the image."""
    parts: list[Found] = []

    def find(pixels: NDArray[np.uint8]) -> Detections:
        parts.extend(_find_alike([run], largest, pixels, max_proposals))
        return parts[-1].detections

    start = time.perf_counter()
    detections = run.detector.find_in_tiles(image, tile, find, MAX_DETECTIONS)
    return replace(parts[-1], detections=detections, seconds=time.perf_counter() - start)


def _find_alike(
    runs: Sequence[ProfileRun], largest: Detector, image: NDArray[np.uint8], max_proposals: int | None
) -> list[Found]:
    """Return what each of runs that share outputs finds in one image [H,W,3]."""
    some = runs[0]
    start = time.perf_counter()
    view = largest.view(image, some.profile)
    largest.prepare(view, some.profile)
    trunk = time.perf_counter() - start
    proposals: dict[Profile, tuple[Proposals, float]] = {}
    for profile in dict.fromkeys(run.profile for run in runs):
        start = time.perf_counter()
        proposed = largest.propose(view, profile, max_proposals)
        proposals[profile] = proposed, trunk + time.perf_counter() - start

    boxes, rows = distinct([proposed.boxes for proposed, _ in proposals.values()])
    whole = any(run.scoring.context_power for run in runs)
    last = [len(boxes)] if whole else []  # the row of the whole image, for everyone
    rows_of = {
        profile: np.append(part, last).astype(np.int64) for profile, part in zip(proposals, rows, strict=True)
    }
    start = time.perf_counter()
    predictions = largest.predict(view, boxes, whole=whole, flip=some.scoring.flip, profile=some.profile)
    seconds_a_region = (time.perf_counter() - start) / max(len(boxes), 1)

    found = []
    for run in runs:
        proposed, proposing = proposals[run.profile]
        start = time.perf_counter()
        detections = _detections(run, view, proposed, predictions, rows_of[run.profile])
        scoring = time.perf_counter() - start
        seconds = proposing + len(proposed) * seconds_a_region * run.candidate.cost + scoring
        found.append(Found(detections, proposed.boxes, proposing, seconds))
    return found


def _detections(
    run: ProfileRun,
    view: ImageView,
    proposals: Proposals,
    predictions: Sequence[RegionPrediction],
    rows: NDArray[np.int64],
) -> Detections:
    """Make detections of the raw outputs of all members, of which this detector has the first.

    ``rows`` are those of the proposals among the outputs' regions, and then that of the whole image if there
    is one.
    """
    detector = run.detector
    prediction = average(predictions[: len(detector.members)])
    regions = score_regions(prediction.rows(rows), proposals.boxes, view.width, view.height, run.scoring)
    regions = replace(regions, proposals=proposals)
    return detector.select(regions, score_threshold=SCORE_THRESHOLD, max_detections=MAX_DETECTIONS)


def distinct(parts: Sequence[Boxes]) -> tuple[Boxes, list[NDArray[np.int64]]]:
    """Return the distinct boxes [U,4] of several parts [R,4], and for each part its rows [R] among them."""
    boxes, rows = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    ends = np.cumsum([len(part) for part in parts])
    return boxes, np.split(rows.reshape(-1), ends[:-1])
