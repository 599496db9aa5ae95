"""How the rate falls and what the averages are, by hand; numbers that no run can be made with are refused."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from detector.errors import ParameterError
from training.classification.task import PretrainRecipe
from training.multibox.task import MultiBoxRecipe
from training.rcnn.dataloader import BatchSettings
from training.rcnn.losses import LossWeights
from training.rcnn.recipe import Recipe
from training.trainer.optimization import Averaging, Decay, RateSchedule, TrainingSettings, averaged_model


@pytest.mark.parametrize(
    ("iteration", "decay", "factor"),
    [
        pytest.param(0, Decay.COSINE, 0.25, id="the first of a warm-up of four"),
        pytest.param(3, Decay.PAPER, 1.0, id="its last"),
        pytest.param(4, Decay.COSINE, 1.0, id="cosine: from the top"),
        pytest.param(54, Decay.COSINE, 0.5, id="half way down"),
        pytest.param(79, Decay.COSINE, 0.5 * (1 - 0.5**0.5), id="three quarters"),
        pytest.param(103, Decay.COSINE, 0.000247, id="nearly nothing at the last of 104"),
        pytest.param(23, Decay.PAPER, 1.0, id="paper: eight epochs of three iterations"),
        pytest.param(24, Decay.PAPER, 0.96, id="4 % less"),
        pytest.param(103, Decay.PAPER, 0.96**4, id="after four times eight epochs"),
        pytest.param(103, Decay.CONSTANT, 1.0, id="constant to the end"),
    ],
)
def test_the_rate_by_hand(iteration: int, decay: Decay, factor: float) -> None:
    assert RateSchedule(104, 4, decay, epoch_length=3)(iteration) == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize("decay", list(Decay))
def test_without_a_warm_up_the_first_rate_is_whole(decay: Decay) -> None:
    assert RateSchedule(1, 0, decay)(0) == 1.0


class OneWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def averages_of(settings: TrainingSettings, weights: list[float], iterations: int) -> list[float]:
    """The average after each iteration of a run that has these weights after its iterations."""
    module, averages = OneWeight(), []
    averaged = averaged_model(module, settings, iterations)
    for weight in weights:
        module.weight.data.fill_(weight)
        averaged.update_parameters(module)
        averages.append(averaged.module.weight.item())
    return averages


@pytest.mark.parametrize(
    ("settings", "averages"),
    [
        pytest.param(
            TrainingSettings(averaging=Averaging.NONE), [1, 2, 4, 8, 16], id="none: the weights themselves"
        ),
        pytest.param(
            TrainingSettings(averaging=Averaging.POLYAK, average_from=0.0),
            [1, 1.5, 7 / 3, 15 / 4, 31 / 5],
            id="plain mean of all",
        ),
        pytest.param(
            TrainingSettings(averaging=Averaging.POLYAK, average_from=0.4),
            [1, 2, 4, 6, 28 / 3],
            id="plain mean from the third on",
        ),
        # It keeps 0.1, 2/11, then its 0.2: what it began with, 0, is soon gone.
        pytest.param(
            TrainingSettings(averaging=Averaging.EMA, ema_decay=0.2),
            [0.9, 1.8, 3.56, 7.112, 14.2224],
            id="running average",
        ),
    ],
)
def test_averages_by_hand(settings: TrainingSettings, averages: list[float]) -> None:
    """Of weights 1, 2, 4, 8, 16, from an average of 0 at first."""
    assert averages_of(settings, [1, 2, 4, 8, 16], 5) == pytest.approx(averages, rel=1e-5)


@pytest.mark.parametrize(("iteration", "kept"), [(0, 0.1), (89, 90 / 99), (10_000, 0.998)])
def test_a_long_running_average_keeps_what_it_is_told(iteration: int, kept: float) -> None:
    """Of an average of 1 that meets a weight of 0, as a run resumed at that iteration does."""
    module = OneWeight()
    averaged = averaged_model(module, TrainingSettings(ema_decay=0.998), 1)
    averaged.module.weight.data.fill_(1)
    averaged.n_averaged.fill_(iteration + 1)
    averaged.update_parameters(module)
    assert averaged.module.weight.item() == pytest.approx(kept)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, -1.0, 1e300])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(Recipe, "rate"), (Recipe, "head_rate"), (MultiBoxRecipe, "rate"), (PretrainRecipe, "rate")],
)
def test_rates_out_of_range_are_refused(kind: Callable[..., object], name: str, value: float) -> None:
    shown = name.replace("_", "-")
    with pytest.raises(ParameterError, match=rf"^{shown} must be in 0\.0 to 1000\.0, got "):
        kind(**{name: value})


@pytest.mark.parametrize("value", [-1, 10**22])
@pytest.mark.parametrize("kind", [Recipe, MultiBoxRecipe, PretrainRecipe])
def test_seeds_out_of_range_are_refused(kind: Callable[..., object], value: int) -> None:
    with pytest.raises(ParameterError, match=f"^seed must be in 0 to 4611686018427387904, got {value}$"):
        kind(seed=value)


@pytest.mark.parametrize("value", [NAN, -0.1, 1.1])
@pytest.mark.parametrize(
    ("kind", "name"), [(BatchSettings, "balance"), (BatchSettings, "mined"), (LossWeights, "label_smoothing")]
)
def test_shares_outside_0_to_1_are_refused(kind: Callable[..., object], name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=r"must be in 0\.0 to 1\.0, got "):
        kind(**{name: value})


@pytest.mark.parametrize("value", [NAN, INFINITE, -0.1])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (LossWeights, "distillation"),
        (LossWeights, "auxiliary"),
        (LossWeights, "multibox"),
        (Recipe, "stage_decay"),
        (Recipe, "patience"),
    ],
)
def test_numbers_below_0_or_without_end_are_refused(
    kind: Callable[..., object], name: str, value: float
) -> None:
    with pytest.raises(ParameterError, match=r"must be a finite number, 0 or more, got "):
        kind(**{name: value})


def test_numbers_at_the_edges_are_allowed() -> None:
    Recipe(rate=0, head_rate=1000, seed=2**62, patience=0)
    LossWeights(label_smoothing=1, distillation=0)
    BatchSettings(balance=0, mined=1)
