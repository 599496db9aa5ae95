"""Who is let in: the books, without a service around them."""

import pytest

from api import admission
from api.admission import Admission, Rate
from api.errors import ApiError
from api.watching.metrics import Metrics


class Clock:
    """Stands for ``time.monotonic`` in the module under test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "monotonic", clock)
    return clock


def books(*, rate: float = 100.0, requests: int = 10, size: int = 1000) -> Admission:
    return Admission(max_requests=requests, max_bytes=size, stated_rate=lambda: rate, metrics=Metrics())


@pytest.mark.parametrize(
    ("waiting", "regions", "size", "seconds", "retry_after"),
    [
        pytest.param([], 10**6, 10, 1, None, id="alone: later would be no better"),
        pytest.param([100], 100, 10, 30, None, id="there is time"),
        pytest.param([100], 100, 10, 1, 2, id="two seconds of work for one that has one"),
        pytest.param([4000], 100, 10, 30, 16, id="so much work that it has to wait for long"),
        pytest.param([1] * 10, 1, 10, 30, 1, id="too many requests"),
        pytest.param([1], 1, 2000, 30, 1, id="no room for its bytes"),
        pytest.param([], 1, 2000, 30, None, id="alone there is always room for its bytes"),
    ],
)
def test_who_is_let_in(
    clock: Clock, waiting: list[int], regions: int, size: int, seconds: float, retry_after: int | None
) -> None:
    admission = books()
    for one in waiting:
        admission.admit(one, 10, 100)
    if retry_after is None:
        assert admission.admit(regions, size, seconds).deadline == clock.now + seconds
        return
    with pytest.raises(ApiError) as refused:
        admission.admit(regions, size, seconds)
    assert (refused.value.status, refused.value.code) == (429, "overloaded")
    assert refused.value.headers == {"Retry-After": str(retry_after)}


def test_what_is_over_makes_room(clock: Clock) -> None:
    admission = books(requests=1)
    for _ in range(3):
        with admission.admit(100, 1000, 30), pytest.raises(ApiError):
            admission.admit(1, 1, 30)


def test_a_ticket_may_turn_out_to_be_more_work(clock: Clock) -> None:
    admission = books()
    with admission.admit(100, 1, 30) as ticket, admission.admit(100, 1, 30):
        ticket.grow(1000)
        with pytest.raises(ApiError, match="takes longer"):
            ticket.grow(2000)
        with pytest.raises(ApiError):
            admission.admit(1400, 1, 30)
    with admission.admit(100, 1, 30):
        admission.admit(1400, 1, 30)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([], 7.0, id="nothing yet: what was stated"),
        pytest.param([(0, 5, 5), (3, 30, 5)], 10.0, id="thirty regions in three seconds"),
        pytest.param([(0, 5, 5), (3, 30, 5), (6, 90, 5)], 20.0, id="the mean of before and now"),
        pytest.param([(0, 5, 5), (1, 30, 1), (9, 30, 5)], 7.0, id="idle time says nothing"),
        pytest.param([(0, 5, 5), (1, 30, 5)], 7.0, id="too short a time says nothing"),
    ],
)
def test_the_rate(clock: Clock, answers: list[tuple[float, int, int]], expected: float) -> None:
    """``answers``: when, of how many regions, and how many requests waited besides."""
    rate = Rate()
    for when, regions, pending in answers:
        clock.now = 100 + when
        rate.done(regions, pending)
    assert rate.value(stated=7.0) == expected
