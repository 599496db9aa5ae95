"""Recipes of fine-tuning: by kept maps or jointly with the trunk, those of the papers, and a short one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated

import numpy as np
from tyro.conf import Suppress, arg

from detector.cli.command_line import at_least
from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.inference.scoring import Scoring
from detector.inference.shared_maps import SharedMaps
from detector.options import Profile
from training.rcnn.dataloader import BatchSettings
from training.rcnn.losses import LossWeights
from training.rcnn.sampling import SamplingSettings
from training.trainer.optimization import ANY, RATE, Averaging, Decay, TrainingSettings, check_ranges
from training.trainer.optimizer import OptimizerKind

SCORING = Scoring(
    fit_power=2.0,
    objectness_power=1.5,
    context_power=0.2,
    context_floor=0.05,
    score_power=0.27,
    vote_iou=0.5,
)
"""How a trained detector scores: chosen on pictures held out (docs/training.md, "What moved it")."""


class RegionKind(StrEnum):
    """Where the features of regions come from."""

    SHARED = "shared"
    WARPED = "warped"


@dataclass(frozen=True)
class Recipe(TrainingSettings):
    """Settings of a fine-tuning run: they and the data decide its course.

    The averaged weights are validated where there are images for it.
    """

    iterations: Annotated[int, Suppress] = 2000  # an option of its own, which may depend on the data
    """Minibatches."""
    rate: float = 0.002
    """Learning rate of the trunk."""
    head_rate: float = 0.01
    """Rate of the classifier and the other heads."""
    stage_decay: float = 1.0
    """A stage's rate, as a share of that of the inception stage above it."""
    frozen_through: str = "pool4"
    """Last stage that keeps its weights; 'none' trains all."""
    accumulate: Annotated[int, at_least(1)] = 1
    """Run a minibatch in so many pieces: less memory, the same gradient."""
    proposals: Profile | None = None
    """Profile that proposes regions to learn from [fast where MultiBox reads shared maps, else balanced, or
    search without a head]."""
    regions: RegionKind | None = None
    """Cut regions out of maps of the whole image, or warp each to a crop, as R-CNN did [as the init does]."""
    scales: tuple[int, ...] | None = None
    """Shorter sides in pixels at which the whole image is seen [those of the init, or 227 and 454]."""
    shapes: Annotated[int, at_least(4)] = 20
    """Shapes of a new MultiBox head's priors, where the stages it reads are trained."""
    zoom: float = 1.0
    """See each image larger or smaller by up to this factor: images are streamed, not cached."""
    color_jitter: Annotated[bool, arg(name="distortion")] = False
    """Change light and color of the images: they are streamed, not cached."""
    validate_every: Annotated[int, at_least(1), arg(name="measure-every")] = 250
    """Iterations between validations."""
    batch: BatchSettings = field(default_factory=BatchSettings)
    """Regions of each kind in a minibatch."""
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    """Regions that are kept of each image."""
    loss: LossWeights = field(default_factory=LossWeights)
    """Weights of the parts of the loss."""
    scoring: Annotated[Scoring, Suppress] = field(default_factory=lambda: SCORING)
    """How the detector scores."""

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        super().__post_init__()
        check_ranges(self, head_rate=RATE, stage_decay=ANY, zoom=(1.0, 4.0))
        if self.scales is not None:
            _ = SharedMaps(self.scales)

    def shared_maps(self, init: SharedMaps | None, stage: str) -> SharedMaps | None:
        """Say how regions share the trunk through ``stage``, as the recipe wants it or as the ``init`` does;
        None if regions are warped."""
        kind = self.regions or (RegionKind.WARPED if init is None else RegionKind.SHARED)
        if kind is RegionKind.WARPED:
            return None
        shared = init or SharedMaps(stage=stage)
        return shared if self.scales is None else replace(shared, scales=self.scales)


PRESETS: Mapping[str, Recipe] = {
    "default": Recipe(),
    # Trunk, MultiBox and regions together from inception 4a on, of thousands of images, on a CPU as well: few
    # images a minibatch, as Fast R-CNN has them (arXiv 1504.08083, section 2.3). With AdamW the loss falls
    # faster than with SGD (docs/training.md, "What moved it").
    "joint": Recipe(
        optimizer=OptimizerKind.ADAMW,
        rate=5e-5,
        head_rate=1e-4,
        warmup=30,
        ema_decay=0.995,
        frozen_through="pool3",
        accumulate=2,
        regions=RegionKind.SHARED,
        zoom=1.2,
        save_every=100,
        batch=BatchSettings(positives=28, background=32, whole=0, unknown=4, balance=0.3, images=4),
        sampling=SamplingSettings(positives=16),
        loss=LossWeights(distillation=0.0),
    ),
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
        validate_every=1000,
        batch=BatchSettings(positives=32, background=96, whole=0, near=0.0, balance=0.0),
        loss=LossWeights(distillation=0.0, fit=0.0, full_iou=0.5),
        scoring=Scoring(),
        regions=RegionKind.WARPED,
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
        color_jitter=True,
        save_every=1000,
        validate_every=1000,
        loss=LossWeights(distillation=0.0, auxiliary=0.3),
        regions=RegionKind.WARPED,
    ),
    # To see whether all is well: half as long as the default takes for two hundred images.
    "quick": Recipe(
        iterations=120,
        warmup=12,
        ema_decay=0.98,
        save_every=50,
        validate_every=60,
        sampling=SamplingSettings(positives=8, background=16),
    ),
}


def preset(name: str) -> Recipe:
    """Return the recipe of that name. Raises ParameterError if there is none."""
    if name not in PRESETS:
        raise ParameterError(f"no recipe is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


_OF_ROOT = 114.0
_SHORTEST, _LONGEST = 150, 50_000

MINIBATCHES_AN_IMAGE: Mapping[str, float] = {"default": 1.0, "joint": 0.25}
"""The recipes whose length follows the data, by name: minibatches for each image that there is."""


def suggested_iterations(records: Sequence[AnnotatedImage], an_image: float) -> int:
    """Suggest how many minibatches suit so many images with objects, ``an_image`` for each.

    Of some hundred images each is seen about as often (by default 160 iterations for 160, docs/training.md);
    beyond 13,000 four times the images take twice as many. On the 395,918 of the whole ILSVRC set, whose
    minibatches are a third of R-CNN's (arXiv 1311.2524, section 2.3), the default gives its 50,000
    iterations.
    """
    images = sum(len(record.boxes) > 0 for record in records)
    wanted = an_image * min(images, _OF_ROOT * images**0.5)
    return int(np.clip(round(wanted), _SHORTEST, _LONGEST))
