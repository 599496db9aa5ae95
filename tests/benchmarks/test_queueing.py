"""The queueing model against formulas of books, and against a queue that is simulated request by request."""

import heapq
import math

import numpy as np
import pytest
from loadtest.queueing import Queue


@pytest.mark.parametrize("utilisation", [0.1, 0.5, 0.9])
def test_one_server(utilisation: float) -> None:
    """M/M/1 and M/D/1 in closed form: a fixed service time halves the wait."""
    queue = Queue(utilisation / 2, 1, 2.0, 1.0)
    assert queue.waiting_share == pytest.approx(utilisation)
    assert queue.mean_wait == pytest.approx(2 * utilisation / (1 - utilisation))
    fixed = Queue(utilisation / 2, 1, 2.0, 0.0)
    assert fixed.mean_wait == pytest.approx(queue.mean_wait / 2)
    for percent in (50, 99):
        exact = -math.log((1 - percent / 100) / utilisation) * 2 / (1 - utilisation)
        assert queue.wait(percent) == pytest.approx(max(0.0, exact))


@pytest.mark.parametrize(
    ("offered", "servers", "share"),
    [
        pytest.param(1.0, 2, 1 / 3, id="two servers: 2u²/(1+u)"),
        pytest.param(1.8, 2, 2 * 0.81 / 1.9, id="two busy servers"),
        pytest.param(2.0, 3, 4 / 9, id="three servers"),
        pytest.param(8.0, 10, 0.4092, id="ten servers, from a table of Erlang C"),
        pytest.param(2.0, 2, 1.0, id="no time is left"),
        pytest.param(3.0, 2, 1.0, id="overload"),
    ],
)
def test_the_share_that_waits(offered: float, servers: int, share: float) -> None:
    assert Queue(offered, servers, 1.0).waiting_share == pytest.approx(share, abs=1e-4)


def test_overload_has_no_end() -> None:
    queue = Queue(3, 2, 1.0)
    assert queue.mean_wait == queue.wait(50) == math.inf


def test_most_do_not_wait_when_there_is_little_to_do() -> None:
    assert Queue(0.1, 2, 1.0).wait(50) == 0


def simulated_waits(rate: float, servers: int, services: np.ndarray, seed: int) -> np.ndarray:
    """Seconds that each request waits for the first of the servers that is free."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(services)))
    free = [0.0] * servers
    waits = []
    for arrival, service in zip(arrivals, services, strict=True):
        start = max(arrival, heapq.heappop(free))
        heapq.heappush(free, start + service)
        waits.append(start - arrival)
    return np.array(waits)


@pytest.mark.parametrize("servers", [1, 2, 4])
@pytest.mark.parametrize("variability", [0.0, 1.0])
def test_against_a_simulation(servers: int, variability: float) -> None:
    """The mean wait within a tenth, p99 within a fifth, at four fifths of the capacity."""
    count, rate = 200_000, 0.8 * servers
    services = np.random.default_rng(1).exponential(1.0, count) if variability else np.ones(count)
    waits = simulated_waits(rate, servers, services, seed=2)
    queue = Queue(rate, servers, 1.0, variability)
    assert waits.mean() == pytest.approx(queue.mean_wait, rel=0.1)
    assert np.percentile(waits, 99) == pytest.approx(queue.wait(99), rel=0.2)
