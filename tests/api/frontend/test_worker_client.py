"""The rate of a device, as its reports tell it."""

import pytest

from api.frontend import worker_client as module
from api.frontend.worker_client import Rate


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param([], 50.0, id="nothing yet: what was stated"),
        pytest.param([(40, 2.0)], 50.0, id="too short a time says nothing"),
        pytest.param([(40, 2.0), (40, 2.0)], 35.0, id="twenty a second: the mean of before and now"),
        pytest.param([(0, 4.0)], 50.0, id="nothing done: a device that hangs tells no rate"),
        pytest.param([(0, 0.0)] * 99, 50.0, id="slow clients, unreadable pictures: the device had no work"),
        pytest.param([(1, 60.0)], 50.0, id="stopped for a minute"),
    ],
)
def test_the_rate_follows_what_is_reported(
    monkeypatch: pytest.MonkeyPatch, reports: list[tuple[int, float]], expected: float
) -> None:
    monkeypatch.setattr(module, "monotonic", lambda: 100.0)
    rate = Rate(50.0)
    for regions, seconds in reports:
        rate.report(regions, seconds)
    assert rate.value == expected


def test_a_bad_time_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    rate = Rate(64.0)
    for _ in range(20):
        rate.report(1, 5.0)
    assert rate.value < 1
    now += 30
    assert 32 < rate.value < 33
    now += 300
    assert rate.value > 63
