"""Which rows go into a batch, and what it costs: turns are counted, nothing is run."""

from collections import deque

import pytest
import torch
from torch import nn

from detector.inference.executor import ForwardRequest, Priority
from detector.inference.torch_engine import InferenceNetwork, TorchEngine
from detector.scheduling.batching import BatchQueue, QueuedRequest
from detector.scheduling.fair_queue import RequestHandle

BATCH, QUANTUM = 8, 16


@pytest.fixture
def engine() -> TorchEngine:
    return TorchEngine(InferenceNetwork(nn.Identity(), lambda rows: {"rows": rows}), batch=BATCH)


def waiting(
    engine: TorchEngine, rows: int, cost: int, *, deadline: float = 1e12, urgent: bool = False
) -> QueuedRequest:
    priority = Priority.URGENT if urgent else Priority.NORMAL
    request = ForwardRequest(
        engine, rows, lambda first, last: torch.zeros(last - first, 1, 1, 1), priority, cost=cost
    )
    return QueuedRequest(request, RequestHandle(deadline), lambda outcome: None, 0.0, deque([(0, rows)]))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param([(8, 1)], [(8, 8)], id="regions"),
        pytest.param([(3, 9)], [(1, 9), (1, 9), (1, 9)], id="crops, of which one fits a quantum"),
        pytest.param([(20, 4)], [(4, 16)] * 5, id="four to a quantum"),
        pytest.param([(1, 40)], [(1, 40)], id="one of more than a quantum"),
        pytest.param([(2, 40)], [(1, 40), (1, 40)], id="two of them, a turn each"),
    ],
)
def test_a_turn_takes_rows_by_their_cost(
    engine: TorchEngine, asked: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    """The parts of all batches: their rows, and what these cost."""
    queue = BatchQueue(QUANTUM)
    for rows, cost in asked:
        queue.add(waiting(engine, rows, cost))
    parts = []
    while (batch := queue.next_batch()) is not None:
        assert batch.rows <= BATCH
        costs = [part.rows * part.queued.request.cost for part in batch.ranges]
        assert batch.cost == sum(costs)
        parts += [(part.rows, cost) for part, cost in zip(batch.ranges, costs, strict=True)]
    assert parts == expected


def test_who_waits_beside_an_expensive_request_is_next_after_one_turn(engine: TorchEngine) -> None:
    """Of crops with an earlier deadline one is taken, of regions then as many as take as long."""
    queue = BatchQueue(QUANTUM)
    crops, regions = waiting(engine, 100, 2 * QUANTUM, deadline=1), waiting(engine, 100, 1)
    queue.add(crops)
    queue.add(regions)
    taken: dict[QueuedRequest, int] = {crops: 0, regions: 0}
    for _ in range(20):
        batch = queue.next_batch()
        assert batch is not None
        for part in batch.ranges:
            taken[part.queued] += part.rows
            assert abs(taken[crops] * 2 * QUANTUM - taken[regions]) <= 3 * QUANTUM
        if not regions.waiting:
            break
    assert taken[regions] == 100
    assert 3 <= taken[crops] <= 5


def test_an_urgent_batch_has_a_cost_too(engine: TorchEngine) -> None:
    queue = BatchQueue(QUANTUM)
    queue.add(waiting(engine, 5, 1))
    queue.add(waiting(engine, 1, 9, urgent=True))
    queue.add(waiting(engine, 1, 7, urgent=True))
    batch = queue.next_batch()
    assert batch is not None
    assert (batch.rows, batch.cost) == (2, 16)
