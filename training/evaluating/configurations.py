"""Which detectors an evaluation runs: weights, alone or as an ensemble, under one scoring or several."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from detector.errors import ParameterError
from detector.inference.detector import Detector
from detector.inference.placement import place
from detector.inference.scoring import Scoring
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.transfer import from_classifier
from detector.options import Profile
from training.evaluating.cache import DetectionCache
from training.evaluating.run import MAX_DETECTIONS, SCORE_THRESHOLD, CacheOf, Candidate, ProfileRun
from training.settings_text import settings_error, split_settings


@dataclass(frozen=True)
class System:
    """Weights as they are run: a candidate for each scoring, and for each size of an ensemble.

    ``titles`` are what a table calls the runs, by how many of the first members they are of: a network's
    name, and its file where others have that name too.
    """

    titles: dict[int, str]
    paths: tuple[Path, ...]
    candidates: list[Candidate]

    @property
    def title(self) -> str:
        """What all members together are called."""
        return self.titles[len(self.paths)]

    @property
    def whole(self) -> Detector:
        """A detector of all members, under any of the scorings."""
        return self.candidates[-1].detector

    def profiles(self, chosen: Sequence[Profile] | None) -> list[Profile]:
        """Return the profiles to run, each once; by default the weights' own."""
        return list(dict.fromkeys(chosen or [self.whole.profile]))

    def cache_of(self, folder: Path, max_proposals: int | None, tile: int | None = None) -> CacheOf:
        """Return what says where that which a run finds is kept, below ``folder``."""
        weights = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.paths]

        def of(run: ProfileRun) -> DetectionCache:
            settings = {
                "weights": weights,  # of all members, since any of them may propose
                "members": len(run.detector.members),
                "profile": run.profile,
                "max_proposals": max_proposals,
                "tile": tile,
                "scoring": asdict(run.detector.scoring),
                "runs": [getattr(run.detector.ensemble, what) for what in ("engine", "device", "precision")],
                "kept": [SCORE_THRESHOLD, MAX_DETECTIONS],
            }
            return DetectionCache(folder, settings)

        return of


def make_systems(
    paths: Sequence[Path],
    *,
    ensemble: bool,
    scorings: Sequence[str],
    device: str,
    engine: str = "auto",
    precision: str = "auto",
) -> list[System]:
    """Make a system for each weights file, or one of all as an ensemble, to be run at every size.

    A checkpoint that only classifies is folded onto the 200 classes. ``scorings`` are texts for
    :func:`parse_scoring`; without any each system runs under its own. Raises the errors of loading and of
    :class:`Detector`, and ParameterError for a scoring that makes no sense or stands twice.
    """
    groups = [tuple(paths)] if ensemble else [(path,) for path in paths]
    systems = []
    for group in groups:
        checkpoints = [_detecting(load_checkpoint(path)) for path in group]
        own = checkpoints[0].metadata.scoring
        named = [parse_scoring(text, own) for text in scorings] or [("", own)]
        if len(dict(named)) < len(named):
            raise ParameterError(f"two scorings have one name: {', '.join(name for name, _ in named)}")
        # Once for all candidates.
        placed = place(checkpoints, engine=engine, device=device, precision=precision)
        titles = _titles(checkpoints)
        candidates = [
            Candidate(Detector(placed.first(size), scoring=scoring), name, title)
            for name, scoring in named
            for size, title in titles.items()
        ]
        systems.append(System(titles, group, candidates))
    times = Counter(system.title for system in systems)
    return [_with_path(system) if times[system.title] > 1 else system for system in systems]


def _with_path(system: System) -> System:
    """Return a system of one file whose title says which."""
    title = f"{system.title} ({system.paths[0]})"
    candidates = [replace(candidate, title=title) for candidate in system.candidates]
    return replace(system, titles={1: title}, candidates=candidates)


def parse_scoring(text: str, own: Scoring) -> tuple[str, Scoring]:
    """Name and scoring of ``name:key=value,key=value``: ``own`` with some settings changed.

    Without a name it is called by its settings; without settings (``own:``) nothing is changed. Values are
    written as in JSON, words without quotes. Raises ParameterError saying what is wrong.
    """
    name, words = split_settings("--scoring", text if ":" in text else f"{text}:{text}")
    changes = {}
    for key, word in words.items():
        try:
            changes[key] = json.loads(word)
        except (ValueError, RecursionError):
            changes[key] = word
    try:
        return name, Scoring.from_json({**asdict(own), **changes})
    except ParameterError as error:
        raise settings_error("--scoring", text, error) from error


def _titles(checkpoints: Sequence[Checkpoint]) -> dict[int, str]:
    names = [checkpoint.metadata.name for checkpoint in checkpoints]
    count = len(names)
    if count == 1:
        return {1: names[0]}
    joining = {size: f"{size} of {count}: with {names[size - 1]}" for size in range(2, count)}
    more = ", ..." if len(set(names)) > 1 else ""
    return {1: f"1 of {count}: {names[0]}", **joining, count: f"ensemble of {count}: {names[0]}{more}"}


def _detecting(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint if checkpoint.metadata.detection else from_classifier(checkpoint)
