"""The threads beside the device: what begins when, in which order, and who may run."""

import threading
from collections.abc import Callable, Iterator

import pytest

from api.worker.task_pool import TaskPool
from detector.scheduling.fair_queue import RequestHandle


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


class Device:
    """What tasks wait for, until it is told to finish."""

    def __init__(self) -> None:
        self.finish: Callable[[], None] = lambda: None
        self.reached = threading.Event()

    def start(self, finish: Callable[[], None]) -> None:
        """Begin, as :meth:`TaskPool.wait` does it."""
        self.finish = finish
        self.reached.set()


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def one_thread() -> Iterator[TaskPool]:
    pool = TaskPool(1, ahead=1)
    yield pool
    pool.close()


def begun(pool: TaskPool, diary: Diary, name: str) -> Device:
    """A task was begun and waits for the device; another may begin."""
    device, handle = Device(), RequestHandle(0.0)

    def task() -> None:
        pool.release_slot(handle)
        pool.wait(device.start)
        diary.write(name)

    pool.begin(handle, task)
    assert device.reached.wait(60)
    return device


def held(pool: TaskPool) -> threading.Event:
    """The one thread is busy until the event is set: what comes now waits."""
    running, go_on = threading.Event(), threading.Event()
    handle = RequestHandle(0.0)

    def task() -> None:
        pool.release_slot(handle)
        running.set()
        assert go_on.wait(60)

    pool.begin(handle, task)
    assert running.wait(60)
    return go_on


def test_the_order_is_that_of_deadlines_and_what_was_begun_goes_first(
    one_thread: TaskPool, diary: Diary
) -> None:
    def note(name: str, handle: RequestHandle) -> None:
        diary.write(name)
        one_thread.release_slot(handle)

    device = begun(one_thread, diary, "begun before")
    go_on = held(one_thread)
    for name, deadline in (("late", 3.0), ("early", 1.0), ("as early", 1.0), ("later", 4.0)):
        handle = RequestHandle(deadline)
        one_thread.begin(handle, lambda name=name, handle=handle: note(name, handle))
    device.finish()
    go_on.set()
    assert diary.wait_for(5) == ["begun before", "early", "as early", "late", "later"]


def test_no_more_are_begun_than_may_wait(one_thread: TaskPool, diary: Diary) -> None:
    device = begun(one_thread, diary, "x")
    first, second = RequestHandle(1), RequestHandle(2)
    for name, handle in (("a", first), ("b", second)):
        one_thread.begin(handle, lambda name=name: diary.write(name))
    diary.wait_for(1)
    device.finish()
    assert diary.wait_for(2) == ["a", "x"], "b waits for a's turn on the device"
    one_thread.release_slot(first)
    assert diary.wait_for(3) == ["a", "x", "b"]


def test_what_is_forgotten_is_not_begun(one_thread: TaskPool, diary: Diary) -> None:
    def task() -> None:
        diary.write("forgotten")

    go_on = held(one_thread)
    one_thread.begin(RequestHandle(1), task)
    assert one_thread.forget(task)
    assert not one_thread.forget(task), "a second time it is not there"
    one_thread.begin(RequestHandle(2), lambda: diary.write("other"))
    go_on.set()
    assert diary.wait_for(1) == ["other"]


def test_a_fault_does_not_cost_the_thread(
    one_thread: TaskPool, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    handle = RequestHandle(1)

    def fails() -> None:
        one_thread.release_slot(handle)
        raise ZeroDivisionError

    one_thread.begin(handle, fails)
    one_thread.begin(RequestHandle(2), lambda: diary.write("after"))
    assert diary.wait_for(1) == ["after"]
    assert "ZeroDivisionError" in caplog.text


def test_several_threads_share_the_work(diary: Diary) -> None:
    both = threading.Barrier(2)
    pool = TaskPool(2, ahead=2, on_start=lambda: diary.write("started"))

    def meet() -> None:
        both.wait(60)
        diary.write("met")

    for _ in range(2):
        pool.begin(RequestHandle(1), meet)
    assert sorted(diary.wait_for(4)) == ["met", "met", "started", "started"]
    pool.close()


def test_no_more_run_at_once_than_there_are_turns(diary: Diary) -> None:
    """Twenty tasks, each of which waits for the device once; their threads are as few as may be begun."""
    pool = TaskPool(2, ahead=3)
    running, most, threads = 0, 0, set()
    changed = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with changed:
            running += 1
            most = max(most, running)
            threads.add(threading.get_ident())
        with changed:
            running -= 1

    def task(handle: RequestHandle) -> None:
        work()
        pool.release_slot(handle)
        pool.wait(lambda finish: threading.Thread(target=finish).start())
        work()
        diary.write("done")

    for _ in range(20):
        handle = RequestHandle(1)
        pool.begin(handle, lambda handle=handle: task(handle))
    diary.wait_for(20)
    pool.close()
    assert most <= 2
    assert len(threads) <= 4 * 3 + 2


def test_tasks_that_wait_for_the_device_are_bounded(diary: Diary) -> None:
    """However many are past their first turn there: they hold images, and threads."""
    pool = TaskPool(1, ahead=1)
    devices = [begun(pool, diary, "done") for _ in range(5)]
    late = RequestHandle(1)
    pool.begin(late, lambda: diary.write("late"))
    go_on = threading.Event()
    assert not go_on.wait(0.05)
    assert diary.done == [], "five are begun, and that is all"
    devices[0].finish()
    assert diary.wait_for(2) == ["done", "late"]
    for device in devices[1:]:
        device.finish()
    diary.wait_for(6)
    pool.close()


def test_closing_waits_for_what_was_begun(diary: Diary) -> None:
    pool = TaskPool(1, ahead=1)
    device = begun(pool, diary, "begun")
    closing = threading.Thread(target=pool.close)
    closing.start()
    pool.begin(RequestHandle(1), lambda: diary.write("never"))
    device.finish()
    closing.join(60)
    assert diary.wait_for(1)[0] == "begun"
