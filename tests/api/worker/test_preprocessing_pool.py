"""The threads beside the device: what begins when, and in which order."""

import threading
from collections.abc import Iterator

import pytest

from api.worker.fair_queue import Requester
from api.worker.preprocessing_pool import Preparers


class Diary:
    """Notes what was done, and lets a thread wait for it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._changed = threading.Condition()

    def write(self, name: str) -> None:
        """Note it."""
        with self._changed:
            self.done.append(name)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[str]:
        """The notes, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.done) >= count, 60)
            return list(self.done)


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def one_thread() -> Iterator[Preparers]:
    preparers = Preparers(1, ahead=1)
    yield preparers
    preparers.close()


def held(preparers: Preparers) -> threading.Event:
    """The one thread is busy until the event is set: what comes now waits."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(60)

    preparers.proceed(work)
    assert begun.wait(60)
    return go_on


def test_the_order_is_that_of_deadlines_and_what_was_begun_goes_first(
    one_thread: Preparers, diary: Diary
) -> None:
    def begun(name: str, requester: Requester) -> None:
        diary.write(name)
        one_thread.let_another(requester)

    go_on = held(one_thread)
    for name, deadline in (("late", 3.0), ("early", 1.0), ("as early", 1.0), ("later", 4.0)):
        requester = Requester(deadline)
        one_thread.begin(requester, lambda name=name, requester=requester: begun(name, requester))
    one_thread.proceed(lambda: diary.write("begun before"))
    go_on.set()
    assert diary.wait_for(5) == ["begun before", "early", "as early", "late", "later"]


def test_no_more_are_begun_than_may_wait(one_thread: Preparers, diary: Diary) -> None:
    first, second = Requester(1), Requester(2)
    for name, requester in (("a", first), ("b", second)):
        one_thread.begin(requester, lambda name=name: diary.write(name))
    diary.wait_for(1)
    one_thread.proceed(lambda: diary.write("x"))
    assert diary.wait_for(2) == ["a", "x"], "b waits for a's turn on the device"
    one_thread.let_another(first)
    assert diary.wait_for(3) == ["a", "x", "b"]


def test_what_is_forgotten_is_not_begun(one_thread: Preparers, diary: Diary) -> None:
    def work() -> None:
        diary.write("forgotten")

    go_on = held(one_thread)
    one_thread.begin(Requester(1), work)
    assert one_thread.forget(work)
    assert not one_thread.forget(work), "a second time it is not there"
    one_thread.begin(Requester(2), lambda: diary.write("other"))
    go_on.set()
    assert diary.wait_for(1) == ["other"]


def test_a_fault_does_not_cost_the_thread(
    one_thread: Preparers, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    one_thread.proceed(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    one_thread.proceed(lambda: diary.write("after"))
    assert diary.wait_for(1) == ["after"]
    assert "ZeroDivisionError" in caplog.text


def test_several_threads_share_the_work(diary: Diary) -> None:
    both = threading.Barrier(2)
    preparers = Preparers(2, ahead=2, on_start=lambda: diary.write("started"))

    def meet() -> None:
        both.wait(60)
        diary.write("met")

    for _ in range(2):
        preparers.begin(Requester(1), meet)
    assert sorted(diary.wait_for(4)) == ["met", "met", "started", "started"]
    preparers.close()
