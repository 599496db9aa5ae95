"""The scheduler with a real engine around a network of one multiplication: what is run, in which batches, for
whom, and what becomes of failures."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.inference.executor import ForwardRequest, Priority, run_directly
from detector.inference.torch_engine import InferenceNetwork, TorchEngine, place
from detector.scheduling.batching import Outcome
from detector.scheduling.device_errors import Cancelled, DeviceFault, Expired, OutOfMemory
from detector.scheduling.fair_queue import RequestHandle
from detector.scheduling.scheduler import Scheduler

BATCH = 8
FAR = 1e12


class Doubling(nn.Module):
    """Says the double of each row, and notes what it was given; :meth:`hold` makes it wait."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[float]] = []
        self.fails: Callable[[Tensor], Exception | None] = lambda rows: None
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self.reached = threading.Event()

    def forward(self, rows: Tensor) -> Tensor:
        self.reached.set()
        assert self._may_go_on.wait(60)
        error = self.fails(rows)
        if error is not None:
            raise error
        self.batches.append(rows[:, 0, 0, 0].tolist())
        return 2 * rows

    def hold(self) -> None:
        """Let batches wait from now on."""
        self.reached.clear()
        self._may_go_on.clear()

    def go_on(self) -> None:
        """Let them go on."""
        self._may_go_on.set()


class Asking:
    """Submits requests, and collects the outcomes by name."""

    def __init__(self, scheduler: Scheduler, engine: TorchEngine) -> None:
        self.scheduler, self.engine = scheduler, engine
        self.order: list[str] = []
        self._outcomes: dict[str, Outcome] = {}
        self._asked = 0
        self._told = threading.Condition()

    def ask(
        self,
        name: str,
        rows: list[float],
        *,
        handle: RequestHandle | None = None,
        crops: Callable[[int, int], Tensor] | None = None,
        engine: TorchEngine | None = None,
        urgent: bool = False,
        cost: int = 1,
    ) -> RequestHandle:
        """Have rows doubled."""
        values = torch.tensor(rows).view(-1, 1, 1, 1)
        make_crops = crops or (lambda first, last: values[first:last])
        priority = Priority.URGENT if urgent else Priority.NORMAL
        request = ForwardRequest(engine or self.engine, len(rows), make_crops, priority, cost=cost)
        handle = handle or RequestHandle(FAR)
        self._asked += 1

        def done(outcome: Outcome) -> None:
            with self._told:
                assert name not in self._outcomes, "an asker is told once"
                self._outcomes[name] = outcome
                self.order.append(name)
                self._told.notify_all()

        self.scheduler.submit(request, handle, done)
        return handle

    def outcomes(self) -> dict[str, Outcome]:
        """All of them, once all are there."""
        with self._told:
            assert self._told.wait_for(lambda: len(self._outcomes) == self._asked, 60), (
                "somebody is forgotten"
            )
        return self._outcomes

    def answers(self) -> dict[str, list[float] | type[Exception]]:
        """What each was told: its rows, or the kind of error."""
        return {
            name: outcome.outputs["rows"].flatten().tolist() if outcome.outputs else type(outcome.error)
            for name, outcome in self.outcomes().items()
        }


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


def engine_of(doubling: Doubling) -> TorchEngine:
    return TorchEngine(InferenceNetwork(doubling, lambda rows: {"rows": rows}), batch=BATCH)


@pytest.fixture
def asking(doubling: Doubling) -> Iterator[Asking]:
    scheduler = Scheduler(quantum=16)
    try:
        yield Asking(scheduler, engine_of(doubling))
    finally:
        doubling.go_on()
        scheduler.close()


def busy(doubling: Doubling, asking: Asking) -> None:
    """The device has a batch, and keeps it until told to go on: what comes now waits."""
    doubling.hold()
    asking.ask("first", [0.0])
    assert doubling.reached.wait(60)


def test_rows_of_many_share_a_batch(doubling: Doubling, asking: Asking) -> None:
    busy(doubling, asking)
    asking.ask("a", [1, 2, 3])
    asking.ask("b", [4, 5, 6, 7])
    asking.ask("c", [8, 9, 10])
    doubling.go_on()
    assert asking.answers() == {"first": [0], "a": [2, 4, 6], "b": [8, 10, 12, 14], "c": [16, 18, 20]}
    assert doubling.batches == [[0], [1, 2, 3, 4, 5, 6, 7, 8], [9, 10]]


@pytest.mark.parametrize("rows", [0, 1, BATCH - 1, BATCH, BATCH + 1, 5 * BATCH + 3])
def test_requests_of_any_size(doubling: Doubling, asking: Asking, rows: int) -> None:
    asking.ask("a", [float(i) for i in range(rows)])
    assert asking.answers() == {"a": [2.0 * i for i in range(rows)]}
    assert max(map(len, doubling.batches)) <= BATCH


def test_an_idle_device_starts_at_once_with_what_there_is(doubling: Doubling, asking: Asking) -> None:
    asking.ask("a", [1.0])
    asking.outcomes()
    asking.ask("b", [2.0])
    asking.outcomes()
    assert doubling.batches == [[1], [2]]


def test_engines_do_not_mix(doubling: Doubling, asking: Asking) -> None:
    other = Doubling()
    busy(doubling, asking)
    asking.ask("a", [1.0, 2.0])
    asking.ask("b", [3.0], engine=engine_of(other))
    asking.ask("c", [4.0])
    doubling.go_on()
    assert asking.answers() == {"first": [0], "a": [2, 4], "b": [6], "c": [8]}
    assert (doubling.batches, other.batches) == ([[0], [1, 2, 4]], [[3]])


def test_urgent_requests_go_first(doubling: Doubling, asking: Asking) -> None:
    busy(doubling, asking)
    asking.ask("regions", [1.0] * BATCH)
    asking.ask("glance", [2.0], urgent=True)
    asking.ask("another glance", [3.0], urgent=True)
    doubling.go_on()
    asking.outcomes()
    assert doubling.batches[1] == [2, 3]


def test_a_huge_request_yields(doubling: Doubling, asking: Asking) -> None:
    """Quantum 16: the small one waits for two batches of the huge one, not for a hundred."""
    busy(doubling, asking)
    asking.ask("huge", [1.0] * 800, handle=RequestHandle(deadline=FAR - 1))
    asking.ask("small", [2.0] * BATCH)
    doubling.go_on()
    asking.outcomes()
    assert asking.order.index("small") < asking.order.index("huge")
    first_of_small = next(i for i, rows in enumerate(doubling.batches) if 2.0 in rows)
    assert first_of_small <= 3


def test_the_earliest_deadline_goes_first(doubling: Doubling, asking: Asking) -> None:
    busy(doubling, asking)
    for name, deadline in (("late", FAR), ("early", FAR / 2), ("later", 2 * FAR)):
        asking.ask(name, [1.0] * BATCH, handle=RequestHandle(deadline))
    doubling.go_on()
    asking.outcomes()
    assert asking.order == ["first", "early", "late", "later"]


@pytest.mark.parametrize("urgent", [False, True])
def test_what_expired_never_reaches_the_device(doubling: Doubling, asking: Asking, urgent: bool) -> None:
    busy(doubling, asking)
    deadline = time.monotonic() + 0.01
    asking.ask("expired", [1.0], handle=RequestHandle(deadline), urgent=urgent)
    asking.ask("in time", [2.0])
    while time.monotonic() < deadline:
        time.sleep(0.005)
    doubling.go_on()
    assert asking.answers() == {"first": [0], "expired": Expired, "in time": [4]}
    assert doubling.batches == [[0], [2]]


def test_what_nobody_waits_for_never_reaches_the_device(doubling: Doubling, asking: Asking) -> None:
    busy(doubling, asking)
    handle = asking.ask("left", [1.0] * 3)
    asking.ask("stays", [2.0])
    asking.scheduler.cancel(handle)
    doubling.go_on()
    assert asking.answers() == {"first": [0], "left": Cancelled, "stays": [4]}
    assert doubling.batches == [[0], [2]]


def test_a_request_that_is_cancelled_half_way(doubling: Doubling, asking: Asking) -> None:
    busy(doubling, asking)
    handle = asking.ask("left", [1.0] * 100)
    doubling.reached.clear()
    doubling.go_on()
    while len(doubling.batches) < 2:
        time.sleep(0.001)
    asking.scheduler.cancel(handle)
    asking.ask("stays", [2.0])
    answers = asking.answers()
    assert answers["stays"] == [4]
    assert answers["left"] in (Cancelled, [2.0] * 100)  # the device may have been faster


def test_too_much_for_the_memory(doubling: Doubling, asking: Asking) -> None:
    """Every batch of more than three rows fails, and all are answered: whole, in their order."""
    doubling.fails = lambda rows: torch.OutOfMemoryError("CUDA out of memory") if len(rows) > 3 else None
    busy(doubling, asking)
    asking.ask("a", [1, 2, 3, 4, 5])
    asking.ask("b", [6, 7, 8, 9])
    doubling.go_on()
    assert asking.answers() == {"first": [0], "a": [2, 4, 6, 8, 10], "b": [12, 14, 16, 18]}
    asking.ask("c", [1.0] * 20)
    assert asking.answers()["c"] == [2.0] * 20
    assert max(map(len, doubling.batches)) <= 3


def test_too_much_even_for_a_single_row(doubling: Doubling, asking: Asking) -> None:
    doubling.fails = lambda rows: (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried") if 13.0 in rows else None
    )
    busy(doubling, asking)
    asking.ask("a", [1, 2])
    asking.ask("huge", [13])
    asking.ask("b", [3, 4])
    doubling.go_on()
    assert asking.answers() == {"first": [0], "a": [2, 4], "huge": OutOfMemory, "b": [6, 8]}


def test_nobody_fails_for_a_neighbour(doubling: Doubling, asking: Asking) -> None:
    def broken(first: int, last: int) -> Tensor:
        raise ZeroDivisionError("these crops cannot be made")

    busy(doubling, asking)
    asking.ask("a", [1, 2])
    asking.ask("broken", [13.0], crops=broken)
    asking.ask("b", [3, 4])
    doubling.go_on()
    assert asking.answers() == {"first": [0], "a": [2, 4], "broken": ZeroDivisionError, "b": [6, 8]}


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
    ],
    ids=["as older versions of torch say it", "as newer ones do"],
)
def test_a_lost_device_fails_everything_at_once(doubling: Doubling, error: Exception) -> None:
    faults: list[Exception] = []
    scheduler = Scheduler(on_fault=faults.append)
    asking = Asking(scheduler, engine_of(doubling))
    busy(doubling, asking)
    asking.ask("a", [1.0])
    asking.ask("b", [2.0], urgent=True)
    doubling.fails = lambda rows: error
    doubling.go_on()
    assert asking.answers() == {"first": DeviceFault, "a": DeviceFault, "b": DeviceFault}
    asking.ask("late", [3.0])
    assert asking.answers()["late"] is DeviceFault
    scheduler.close()
    assert faults == [error]


def test_closing_tells_those_that_wait(doubling: Doubling, asking: Asking) -> None:
    busy(doubling, asking)
    asking.ask("waits", [1.0] * 20)
    closing = threading.Thread(target=asking.scheduler.close)
    closing.start()
    doubling.go_on()
    closing.join(60)
    asking.ask("late", [3.0])
    assert asking.answers() == {"first": [0], "waits": Cancelled, "late": Cancelled}


def test_the_load_tells_what_waits_and_once_what_was_done(doubling: Doubling, asking: Asking) -> None:
    busy(doubling, asking)
    asking.ask("a", [1.0] * 11)
    time.sleep(0.02)
    load = asking.scheduler.load()
    assert (load.queued, load.regions, load.fills) == (11, 0, ())
    assert load.stuck >= 0.02
    doubling.go_on()
    asking.outcomes()
    load = asking.scheduler.load()
    assert (load.queued, load.regions, load.fills) == (0, 12, (1 / 8, 1, 3 / 8))
    while asking.scheduler.load().stuck:  # the stream has told, and is about to wait again
        time.sleep(0.001)
    assert asking.scheduler.load().fills == (), "what was told once is not told again"


@pytest.mark.parametrize("cost", [1, 9], ids=["regions", "crops"])
def test_what_a_busy_device_does_is_counted_in_regions(doubling: Doubling, asking: Asking, cost: int) -> None:
    """Of the first, one region, and of a whole batch more was waiting; of the last three rows nothing."""
    busy(doubling, asking)
    asking.ask("a", [1.0] * (BATCH + 3), cost=cost)
    doubling.go_on()
    asking.outcomes()
    load = asking.scheduler.load()
    assert (load.regions, load.full_regions) == (1 + BATCH + 3, 1 + BATCH * cost)


def test_waiting_and_running_are_told_apart(doubling: Doubling, asking: Asking) -> None:
    busy(doubling, asking)
    asking.ask("a", [1.0])
    time.sleep(0.05)
    doubling.go_on()
    outcomes = asking.outcomes()
    assert outcomes["first"].ran >= 0.05 > outcomes["first"].waited
    assert outcomes["a"].waited >= 0.05


def test_the_first_row_is_told_once(asking: Asking) -> None:
    told: list[str] = []
    handle = RequestHandle(FAR, on_first_row=lambda: told.append("first row"))
    asking.ask("glance", [1.0], handle=handle, urgent=True)
    asking.outcomes()
    assert told == [], "a glance is no region"
    asking.ask("regions", [1.0] * 30, handle=handle)
    asking.outcomes()
    asking.ask("second look", [1.0], handle=handle)
    asking.outcomes()
    assert told == ["first row"]


@pytest.mark.parametrize("rows", [1, 3, 13, 40], ids=lambda rows: f"{rows} rows")
def test_streams_share_what_there_is(doubling: Doubling, rows: int) -> None:
    """No batch is more than a stream's share of what waits, but for the last few rows."""
    scheduler = Scheduler(streams=2)
    asking = Asking(scheduler, engine_of(doubling))
    asking.ask("a", [float(i) for i in range(rows)])
    asking.ask("b", [1.0])
    answers = asking.answers()
    assert answers == {"a": [2.0 * i for i in range(rows)], "b": [2.0]}
    assert max(map(len, doubling.batches)) <= min(BATCH, max(4, -(-(rows + 1) // 2)))
    assert sum(map(len, doubling.batches)) == rows + 1
    scheduler.close()


def test_streams_run_side_by_side() -> None:
    """Two batches are under way at once: each waits for the other."""
    both = threading.Barrier(2)

    class Meeting(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            both.wait(60)
            return 2 * rows

    meeting = Meeting()
    engine = TorchEngine(InferenceNetwork(meeting, lambda rows: {"rows": rows}), batch=BATCH)
    scheduler = Scheduler(streams=2)
    asking = Asking(scheduler, engine)
    asking.ask("a", [1.0] * BATCH)
    assert asking.answers() == {"a": [2.0] * BATCH}
    scheduler.close()


def test_an_idle_device_may_wait_for_company(doubling: Doubling) -> None:
    """It waits until a batch is full, though not for ever."""
    scheduler = Scheduler(batch_timeout=60)
    asking = Asking(scheduler, engine_of(doubling))
    asking.ask("a", [1.0] * 3)
    asking.ask("b", [2.0] * 4)
    time.sleep(0.02)
    assert doubling.batches == []
    asking.ask("c", [3.0])
    asking.outcomes()
    assert list(map(len, doubling.batches)) == [BATCH]
    scheduler.close()
    impatient = Scheduler(batch_timeout=0.01)
    asking = Asking(impatient, engine_of(doubling))
    asking.ask("alone", [1.0])
    assert asking.answers() == {"alone": [2]}
    impatient.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_whole_batch_is_started_behind_the_one_that_runs() -> None:
    network = InferenceNetwork(nn.Conv2d(3, 64, 7, padding=3), lambda maps: {"mean": maps.mean(dim=(2, 3))})
    engine = TorchEngine(place(network, device="cuda"), batch=BATCH)
    crops = torch.randn(64, 3, 224, 224, device="cuda")
    scheduler = Scheduler(batch_timeout=0.002)
    asking = Asking(scheduler, engine)
    for name in "abcd":
        asking.ask(name, [0.0] * 64, crops=lambda first, last: crops[first:last])
    expected = run_directly(ForwardRequest.of(engine, crops))["mean"]
    for outcome in asking.outcomes().values():
        assert outcome.outputs is not None
        assert np.allclose(outcome.outputs["mean"], expected, atol=0.02)
    scheduler.close()
