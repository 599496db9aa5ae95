"""All settings of a run of fine-tuning: they and the data decide its course, and nothing else does."""

from dataclasses import dataclass, field
from enum import StrEnum

from detector.inference.scoring import Scoring
from training.common.ranges import ANY, RATE, SEED, check_ranges
from training.common.schedule import Decay
from training.rcnn.losses import LossWeights
from training.rcnn.minibatch import BatchSettings
from training.rcnn.sampling import SamplingSettings

SCORING = Scoring(
    fit_power=0.5,
    objectness_power=1.0,
    context_power=0.5,
    context_floor=0.05,
    score_power=0.4,
    vote_iou=0.5,
)
"""How a trained detector scores: chosen on validation pictures (docs/training.md, "What moved it")."""


class Averaging(StrEnum):
    """Which average of the weights is the result of a run."""

    EMA = "ema"
    POLYAK = "polyak"
    NONE = "none"


@dataclass(frozen=True)
class Recipe:
    """Settings of a run; named ones stand in :mod:`training.rcnn.presets`.

    ``iterations`` minibatches of ``batch``, each run in ``accumulate`` parts (less memory, the same
    gradient). ``rate`` is the trunk's, ``head_rate`` that of the classifier and all heads; both rise over
    ``warmup`` iterations and fall as ``decay`` says. A stage's rate is ``stage_decay`` times that of the
    inception stage above it. Stages up to ``frozen_through`` keep their weights ("none" trains all).

    ``averaging``: ``ema`` keeps ``average`` of the running average at every iteration, ``polyak`` is the
    plain mean of the weights from ``average_from``, a share of the run, on; ``none`` takes the last weights.

    ``distortion`` changes the light and colour of pictures, which only the stream of pictures can.

    Every ``check_every`` iterations the averaged weights are measured on held-out regions, where there are
    any. With a ``patience`` the weights of the lowest held-out loss are the result, and the run ends after so
    many measures without a lower one; 0 runs to the end and takes the last.

    ``scoring`` is how the result makes detections of what it sees.
    """

    iterations: int = 2000
    rate: float = 0.002
    head_rate: float = 0.01
    stage_decay: float = 1.0
    warmup: int = 100
    decay: Decay = Decay.COSINE
    momentum: float = 0.9
    weight_decay: float = 5e-4
    averaging: Averaging = Averaging.EMA
    average: float = 0.998
    average_from: float = 0.5
    frozen_through: str = "pool4"
    accumulate: int = 1
    distortion: bool = False
    check_every: int = 250
    patience: int = 0
    save_every: int = 250
    seed: int = 0
    batch: BatchSettings = field(default_factory=BatchSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    loss: LossWeights = field(default_factory=LossWeights)
    scoring: Scoring = field(default_factory=lambda: SCORING)

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        check_ranges(self, rate=RATE, head_rate=RATE, stage_decay=ANY, patience=ANY, seed=SEED)
