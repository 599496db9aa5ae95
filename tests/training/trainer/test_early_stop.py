"""When a run ends early, and with which weights."""

import pytest
import torch

from training.trainer.early_stop import EarlyStop

NAN = float("nan")


def told(patience: int, losses: list[float]) -> EarlyStop:
    """After measures of weights that are the numbers of their measures."""
    stop = EarlyStop(patience)
    for number, loss in enumerate(losses):
        stop.add(loss, {"w": torch.tensor(float(number))})
    return stop


@pytest.mark.parametrize(
    ("patience", "losses", "over", "best"),
    [
        pytest.param(2, [], False, None, id="nothing measured yet"),
        pytest.param(2, [3, 2, 1], False, 2, id="it still falls"),
        pytest.param(2, [3, 1, 2], False, 1, id="one worse: patience"),
        pytest.param(2, [3, 1, 2, 2], True, 1, id="two worse: over"),
        pytest.param(2, [3, 1, 2, 0.5, 2], False, 3, id="a lower one restores patience"),
        pytest.param(2, [3, 1, 1, 1], True, 1, id="as low is not lower"),
        pytest.param(1, [3, 1, NAN], True, 1, id="no number is not lower"),
        pytest.param(
            0, [1, 2, 3, 4], False, None, id="without a patience it never ends, and the last weights count"
        ),
    ],
)
def test_patience_stops_at_the_best_so_far(
    patience: int, losses: list[float], over: bool, best: int | None
) -> None:
    stop = told(patience, losses)
    assert stop.over is over
    assert {name: value.item() for name, value in stop.best.items()} == ({} if best is None else {"w": best})


def test_the_best_weights_are_a_copy() -> None:
    """Training goes on in the same memory."""
    weights = {"w": torch.ones(2)}
    stop = EarlyStop(3)
    stop.add(1.0, weights)
    weights["w"].mul_(7)
    assert stop.best["w"].tolist() == [1, 1]


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_cut_off_anywhere_it_goes_on(first: int) -> None:
    losses = [3.0, 1.0, 2.0, 2.0]
    resumed = EarlyStop(2)
    resumed.restore(told(2, losses[:first]).state())
    for number in range(first, 4):
        assert not resumed.over
        resumed.add(losses[number], {"w": torch.tensor(float(number))})
    assert resumed.over
    assert resumed.best["w"].item() == 1
