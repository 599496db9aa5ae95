"""What one step of each optimizer does to a weight, and what is kept of it."""

import pytest
import torch
from torch import nn

from training.trainer.optimizer import (
    OptimizerKind,
    make_optimizer,
    optimizer_state,
    restore_optimizer_state,
)

RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.01


def stepped(kind: OptimizerKind, gradients: list[float], weight: float = 2.0) -> nn.Parameter:
    parameter = nn.Parameter(torch.tensor([weight]))
    optimizer = make_optimizer(kind, [{"params": [parameter], "lr": RATE}], MOMENTUM, DECAY)
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
    return parameter


@pytest.mark.parametrize(
    ("kind", "gradients", "expected"),
    [
        pytest.param("sgd", [3.0], 2 - 0.1 * (3 + 0.01 * 2), id="sgd goes by the gradient's length"),
        pytest.param("sgd", [0.0], 2 - 0.1 * 0.01 * 2, id="sgd's decay is a part of the gradient"),
        pytest.param("adamw", [3.0], 2 * (1 - 0.1 * 0.01) - 0.1, id="adamw's first step is the rate"),
        pytest.param("adamw", [3e-4], 2 * (1 - 0.1 * 0.01) - 0.1, id="however short the gradient is"),
        pytest.param("adamw", [-3.0], 2 * (1 - 0.1 * 0.01) + 0.1, id="against its sign"),
        pytest.param("adamw", [0.0], 2 * (1 - 0.1 * 0.01), id="adamw's decay is a share of the rate"),
    ],
)
def test_one_step(kind: str, gradients: list[float], expected: float) -> None:
    assert stepped(OptimizerKind(kind), gradients).item() == pytest.approx(expected, rel=1e-5)


def test_adamw_forgets_squares_within_some_hundred_steps() -> None:
    """One gradient is a thousand times as long as the others: the 1,500th step is as long as the rate again.

    With the usual share of 0.999 it would be 6 % of it.
    """
    gradients = [1000.0] + [1.0] * 1499
    before = stepped(OptimizerKind.ADAMW, gradients[:-1], 0.0).item()
    after = stepped(OptimizerKind.ADAMW, gradients, 0.0).item()
    assert before * (1 - RATE * DECAY) - after == pytest.approx(RATE, rel=0.02)


@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_the_state_taken_up_goes_on_as_if_undisturbed(kind: OptimizerKind) -> None:
    first, second = (nn.Parameter(torch.tensor([2.0, -1.0])) for _ in range(2))
    made = [
        make_optimizer(kind, [{"params": [some], "lr": RATE}], MOMENTUM, DECAY) for some in (first, second)
    ]
    assert optimizer_state(made[0], {"w": first}) == {}, "before the first step there is none"
    first.grad = torch.tensor([0.5, 3.0])
    made[0].step()
    parts = optimizer_state(made[0], {"w": first})
    with torch.no_grad():
        second.copy_(first)
    kept = {part: {name: value.clone() for name, value in values.items()} for part, values in parts.items()}
    restore_optimizer_state(made[1], {"w": second}, {**kept, "average": {"other": torch.zeros(1)}})
    for some, optimizer in zip((first, second), made, strict=True):
        some.grad = torch.tensor([-0.1, 1.0])
        optimizer.step()
    assert torch.equal(first, second)
