"""How the rate falls and what the averages are, by hand."""

import pytest
import torch

from training.trainer.optimization import Decay, Keep, average_in, exponential, none, schedule, uniform


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
def test_the_rate(iteration: int, decay: Decay, factor: float) -> None:
    assert schedule(iteration, 104, 4, decay, an_epoch=3) == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize("decay", list(Decay))
def test_without_a_warm_up_the_first_rate_is_whole(decay: Decay) -> None:
    assert schedule(0, 1, 0, decay) == 1.0


@pytest.mark.parametrize(
    ("keep", "averages"),
    [
        pytest.param(none, [1, 2, 4, 8, 16], id="none: the weights themselves"),
        pytest.param(uniform(0), [1, 1.5, 7 / 3, 15 / 4, 31 / 5], id="plain mean of all"),
        pytest.param(uniform(2), [1, 2, 4, 6, 28 / 3], id="plain mean from the third on"),
        # It keeps 0.1, 2/11, then its 0.2: what it began with, 0, is soon gone.
        pytest.param(exponential(0.2), [0.9, 1.8, 3.56, 7.112, 14.2224], id="running average"),
    ],
)
def test_averages(keep: Keep, averages: list[float]) -> None:
    """Of weights 1, 2, 4, 8, 16, from an average of 0 at first."""
    average, found = {"w": torch.zeros(1)}, []
    for iteration in range(5):
        average_in(average, {"w": torch.tensor([2.0**iteration])}, keep(iteration))
        found.append(average["w"].item())
    assert found == pytest.approx(averages, rel=1e-5)


def test_a_long_running_average_keeps_what_it_is_told() -> None:
    keep = exponential(0.998)
    assert [keep(iteration) for iteration in (0, 89, 10_000)] == pytest.approx([0.1, 90 / 99, 0.998])
