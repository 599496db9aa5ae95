"""Named recipes: the one that ships, those of the papers, and one for a small set on a CPU."""

from collections.abc import Mapping

from detector.errors import ParameterError
from detector.inference.scoring import Scoring
from training.common.schedule import Decay
from training.rcnn.losses import LossWeights
from training.rcnn.minibatch import BatchSettings
from training.rcnn.recipe import Averaging, Recipe
from training.rcnn.sampling import SamplingSettings

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
