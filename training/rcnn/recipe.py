"""All settings of a run of fine-tuning: they and the data decide its course, and nothing else does.

Named recipes: the one that ships, those of the papers, and one for a small set on a CPU.

How long to train on how much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from detector.datasets.record import Record
from detector.errors import ParameterError
from detector.inference.scoring import Scoring
from training.rcnn.losses import LossWeights
from training.rcnn.minibatch import BatchSettings
from training.rcnn.sampling import SamplingSettings
from training.trainer.optimization import ANY, RATE, SEED, Decay, check_ranges

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
    """Settings of a run; named ones stand in :mod:`training.rcnn.recipe`.

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


PRESETS: Mapping[str, Recipe] = {
    "default": Recipe(),
    # R-CNN (arXiv 1311.2524, section 2.3 and appendix B): every layer at 0.001, 32 windows of all classes
    # alike and 96 of background, a region from IoU 0.5 on wholly its class; 50,000 iterations on ILSVRC.
    "rcnn": Recipe(
        iterations=50_000,
        rate=0.001,
        head_rate=0.001,
        warmup=0,
        decay=Decay.CONSTANT,
        averaging=Averaging.NONE,
        frozen_through="none",
        save_every=1000,
        check_every=1000,
        batch=BatchSettings(positives=32, background=96, whole=0, near=0.0, balance=0.0),
        loss=LossWeights(distillation=0.0, fit=0.0, full_iou=0.5),
        scoring=Scoring(),
    ),
    # GoogLeNet (arXiv 1409.4842, section 6): momentum 0.9, 4 % less every 8 epochs, Polyak averaging, the
    # side classifiers at 0.3, dropout as the network has it. The first rate is not in the paper.
    "paper": Recipe(
        iterations=50_000,
        rate=0.002,
        head_rate=0.01,
        decay=Decay.PAPER,
        averaging=Averaging.POLYAK,
        frozen_through="none",
        distortion=True,
        save_every=1000,
        check_every=1000,
        loss=LossWeights(distillation=0.0, auxiliary=0.3),
    ),
    # Some hundred pictures, two cores, a quarter of an hour.
    "quick": Recipe(
        iterations=500,
        warmup=50,
        average=0.99,
        save_every=50,
        check_every=100,
        batch=BatchSettings(positives=16, background=40, whole=8),
        sampling=SamplingSettings(positives=12, background=20),
    ),
}


def preset(name: str) -> Recipe:
    """The recipe of that name. Raises ParameterError if there is none."""
    if name not in PRESETS:
        raise ParameterError(f"no recipe is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


_FACTOR = 48.0
_SHORTEST, _LONGEST = 200, 50_000


def suggested_iterations(records: Sequence[Record]) -> int:
    """Minibatches for so many pictures with objects: four times the pictures, twice the iterations.

    The factor is what suited the 1,745 pictures of the small ILSVRC set (2,000 iterations) by trial; on the
    395,918 of the whole set the rule gives 30,000, where R-CNN (arXiv 1311.2524, section 2.3) ran 50,000.
    """
    images = sum(len(record.boxes) > 0 for record in records)
    return int(np.clip(round(_FACTOR * images**0.5), _SHORTEST, _LONGEST))
