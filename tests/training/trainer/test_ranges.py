"""Numbers that no run can be made with are refused before one is."""

from collections.abc import Callable

import pytest

from detector.errors import ParameterError
from training.classification.pretraining import PretrainRecipe
from training.multibox.loop import MultiBoxRecipe
from training.rcnn.losses import LossWeights
from training.rcnn.minibatch import BatchSettings
from training.rcnn.recipe import Recipe

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, -1.0, 1e300])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(Recipe, "rate"), (Recipe, "head_rate"), (MultiBoxRecipe, "rate"), (PretrainRecipe, "rate")],
)
def test_rates(kind: Callable[..., object], name: str, value: float) -> None:
    shown = name.replace("_", "-")
    with pytest.raises(ParameterError, match=rf"^{shown} must be in 0\.0 to 1000\.0, got "):
        kind(**{name: value})


@pytest.mark.parametrize("value", [-1, 10**22])
@pytest.mark.parametrize("kind", [Recipe, MultiBoxRecipe, PretrainRecipe])
def test_seeds(kind: Callable[..., object], value: int) -> None:
    with pytest.raises(ParameterError, match=f"^seed must be in 0 to 4611686018427387904, got {value}$"):
        kind(seed=value)


@pytest.mark.parametrize("value", [NAN, -0.1, 1.1])
@pytest.mark.parametrize(
    ("kind", "name"), [(BatchSettings, "balance"), (BatchSettings, "mined"), (LossWeights, "label_smoothing")]
)
def test_shares(kind: Callable[..., object], name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=r"must be in 0\.0 to 1\.0, got "):
        kind(**{name: value})


@pytest.mark.parametrize("value", [NAN, INFINITE, -0.1])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (LossWeights, "distillation"),
        (LossWeights, "auxiliary"),
        (Recipe, "stage_decay"),
        (Recipe, "patience"),
    ],
)
def test_other_numbers(kind: Callable[..., object], name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=r"must be a finite number, 0 or more, got "):
        kind(**{name: value})


def test_the_edges_are_allowed() -> None:
    Recipe(rate=0, head_rate=1000, seed=2**62, patience=0)
    LossWeights(label_smoothing=1, distillation=0)
    BatchSettings(balance=0, mined=1)
