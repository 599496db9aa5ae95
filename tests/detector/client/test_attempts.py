"""The waits between tries, by a clock that the test holds."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from detector.client.attempts import Attempts, parse_retry_after
from detector.client.errors import BusyError, NoConnectionError, ServiceTimeoutError


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def busy(retry_after: float | None = None) -> BusyError:
    return BusyError("overloaded", "Later.", 429, "id", retry_after)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_waits_double_up_to_a_bound_and_are_spread(chance: float) -> None:
    attempts = Attempts(1000, 8, "id", clock=Clock(), chance=lambda: chance)
    waits = [attempts.wait_after(busy()) for _ in range(8)]
    assert waits == pytest.approx(
        [wait * (1 + chance / 4) for wait in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)]
    )


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_never_sooner_than_the_service_asks(chance: float) -> None:
    attempts = Attempts(1000, 1, "id", clock=Clock(), chance=lambda: chance)
    assert attempts.wait_after(busy(40)) == pytest.approx(40 * (1 + chance / 4))


def test_a_service_that_says_at_once_is_not_hammered() -> None:
    attempts = Attempts(1000, 3, "id", clock=Clock(), chance=lambda: 0.0)
    assert [attempts.wait_after(busy(0)) for _ in range(3)] == [0.25, 0.5, 1.0]


def test_the_last_error_is_raised_as_it_is() -> None:
    attempts = Attempts(1000, 1, "id", clock=Clock())
    attempts.wait_after(busy())
    last = NoConnectionError("no_connection", "Cut.", None, "id")
    with pytest.raises(NoConnectionError) as raised:
        attempts.wait_after(last)
    assert raised.value is last


def test_no_wait_that_ends_at_the_deadline() -> None:
    clock = Clock()
    attempts = Attempts(10, 5, "id", clock=clock, chance=lambda: 0.0)
    assert attempts.wait_after(busy(4)) == 4
    clock.now += 6
    with pytest.raises(BusyError):
        attempts.wait_after(busy(4))


def test_time_runs_out() -> None:
    clock = Clock()
    attempts = Attempts(2, 5, "id", clock=clock)
    assert attempts.remaining() == 2
    assert attempts.allowed_milliseconds() == 1900
    clock.now += 2
    with pytest.raises(ServiceTimeoutError, match="2 s"):
        attempts.remaining()


@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [
        pytest.param(0.002, 1, id="never none"),
        pytest.param(1, 950, id="a twentieth for the way back"),
        pytest.param(60, 59_500, id="half a second of a long time"),
    ],
)
def test_the_service_is_told_a_little_less(timeout: float, milliseconds: int) -> None:
    assert Attempts(timeout, 0, "id", clock=Clock()).allowed_milliseconds() == milliseconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(None, None, id="not sent"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param(" 120 ", 120.0, id="a number"),
        pytest.param("soon", None, id="neither number nor date"),
        pytest.param("-1", None, id="no number that the header has"),
        pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", 0.0, id="a date that has passed"),
        pytest.param(f"Wed, {10**30} Oct 2015 07:28:00 GMT", None, id="a day that no calendar has"),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert parse_retry_after(date) == pytest.approx(99, abs=2)
