"""Whatever happens to workers, and in whatever order, each device has one in the end, and nothing is left."""

import asyncio
import gc
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import permutations
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest

from api.frontend.admission import Admission
from api.frontend.device_slot import DeviceSlot, State
from api.frontend.settings import Settings
from api.frontend.supervisor import Supervisor
from api.frontend.worker_client import WorkerClient
from api.frontend.worker_subprocess import WorkerFailed
from api.observability.metrics import Metrics
from api.protocol.errors import ApiError
from api.protocol.messages import ClassifyTask

TICKET = Admission(max_requests=1, max_bytes=1, rate=lambda: 1.0, metrics=Metrics()).admit("a", 1, 1, 600)
COMMAND = (sys.executable, "-I", "-S", str(Path(__file__).with_name("small_worker.py")))
ONE, TWO = ("cpu",), ("cuda:0", "cuda:1")  # of a device, only its name is used here


class Device:
    """A supervisor of small workers, and the file that says what they do."""

    def __init__(self, path: Path, devices: Sequence[str], **limits: float) -> None:
        self.path, self.devices = path, devices
        self.write("first")
        settings = Settings(weights=path, device=",".join(devices))
        seconds = {"stall_seconds": 30.0, "start_seconds": 30.0, **limits}
        self.supervisor = Supervisor(settings.worker_settings, Metrics(), command=COMMAND, **seconds)

    def write(self, name: str, **told: Any) -> None:
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps({"name": name, **told}))
        beside.replace(self.path)

    @property
    def slots(self) -> list[DeviceSlot]:
        return self.supervisor.slots

    @property
    def names(self) -> list[str | None]:
        """What each device's worker serves, None for a device that has none."""
        return [
            one.current.models[0].members[0].name if one.current and one.current.ready else None
            for one in self.slots
        ]

    @property
    def settled(self) -> bool:
        return all(
            one.current and one.current.ready and one.state is State.READY and not one.leaving
            for one in self.slots
        )

    async def settle(self, seconds: float = 60) -> None:
        """Returns once each device has one worker, which is ready, and no process besides."""
        await self.until(lambda: self.settled and not self.supervisor._switch_wanted, seconds)
        assert len(self.processes) == len(self.devices)

    async def until(self, holds: Callable[[], object], seconds: float = 60) -> None:
        end = monotonic() + seconds
        while not holds():
            assert monotonic() < end, [(one.state, one.workers, one.complaint) for one in self.slots]
            await asyncio.sleep(0.01)

    @property
    def processes(self) -> list[psutil.Process]:
        numbers = {worker.process.pid for slot in self.slots for worker in slot.workers}
        return [one for one in psutil.Process().children() if one.pid in numbers]

    async def ask(self, slot: int = 0) -> str:
        worker = self.slots[slot].current
        assert worker is not None
        answer = await worker.ask("default", ClassifyTask(1, 1), b"", TICKET, 1)
        return answer.body.decode()


@asynccontextmanager
async def kept(
    path: Path, devices: Sequence[str] = ONE, start: bool = True, **limits: float
) -> AsyncIterator[Device]:
    """Workers for these devices; afterwards all are gone."""
    device = Device(path, devices, **limits)
    try:
        if start:
            await device.supervisor.start()
        yield device
    finally:
        await device.supervisor.close()
        assert not device.processes


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No open file and no process stays, whatever the test does."""
    gc.collect()  # what tests of other files left is not this one's
    here = psutil.Process()
    files, processes = here.num_fds(), len(here.children())
    yield
    assert here.num_fds() <= files  # fewer: the rest of theirs was closed meanwhile
    assert len(here.children()) <= processes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.json"


def signalled(worker: WorkerClient | None, number: int) -> bool:
    """Send a signal to a worker's process, if there is one."""
    if worker is None or worker.process.pid is None or worker.process._process.returncode is not None:
        return False
    os.kill(worker.process.pid, number)
    return True


EVENTS = ("SIGHUP", "SIGHUP again", "old killed", "new killed", "old stopped")


async def happens(event: str, device: Device) -> bool:
    """Let an event happen to the last device, or to all; whether there was anything it could happen to."""
    slot = device.slots[-1]
    if event.startswith("SIGHUP"):
        device.write(event, seconds=0.1)
        device.supervisor.switch()
        return True
    if event == "old killed":
        return signalled(slot.current, signal.SIGKILL)
    if event == "new killed":
        return signalled(slot.successor, signal.SIGKILL)
    return signalled(slot.current, signal.SIGSTOP)


async def in_order(
    path: Path, devices: Sequence[str], events: Sequence[str], ready_first: bool, gap: float
) -> None:
    async with kept(path, devices, start=False, stall_seconds=0.5, start_seconds=3.0) as device:
        device.write("first", seconds=0.1)
        starting = asyncio.create_task(device.supervisor.start())
        await device.until(lambda: device.slots)
        if ready_first:
            await starting
        killed_new = False
        for event in events:
            done = await happens(event, device)
            killed_new = killed_new or (event == "new killed" and done)
            await asyncio.sleep(gap)
        await starting
        await device.settle()
        last = [event for event in events if event.startswith("SIGHUP")][-1]
        if not killed_new:
            assert device.names == [last] * len(devices)
        device.write("at last")
        device.supervisor.switch()
        await device.until(lambda: device.names == ["at last"] * len(devices))
        await device.settle()
        assert [await device.ask(slot) for slot in range(len(devices))] == device.names


CIRCUMSTANCES = [
    (devices, ready_first, gap)
    for devices in (ONE, TWO)
    for ready_first in (False, True)
    for gap in (0.0, 0.06, 0.25)  # seconds between events: at once, while a worker loads, one by one
]
ORDERS = [order for order in permutations(EVENTS, 3) if any(one.startswith("SIGHUP") for one in order)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(len(CIRCUMSTANCES)))
def test_every_order_of_events(path: Path, number: int) -> None:
    """Three of five events in every order: one worker each remains, and the last SIGHUP was not forgotten.

    Each order is tried in one of the circumstances; all of them in all take minutes.
    """
    devices, ready_first, gap = CIRCUMSTANCES[number]

    async def orders() -> None:
        await asyncio.gather(
            *(
                in_order(path.with_name(f"{which}.json"), devices, order, ready_first, gap)
                for which, order in enumerate(ORDERS[number :: len(CIRCUMSTANCES)])
            )
        )

    asyncio.run(orders())


def test_sighup_while_a_switch_is_under_way_follows_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> None:
        async with kept(path) as device:
            for name in ("second", "third", "fourth"):
                device.write(name, seconds=0.2)
                device.supervisor.switch()
                await device.until(lambda: device.slots[0].successor)
            await device.settle()
            assert device.names == ["fourth"]

    asyncio.run(run())
    said = [record.message for record in caplog.records]
    assert sum(one.startswith("Switching to the weights") for one in said) == 2  # third and fourth at once
    assert "SIGHUP: workers are being started or ended; the weights are switched after that" in said
    assert "SIGHUP: a switch is to follow already" in said


@pytest.mark.parametrize("only", ["cuda:0", "cuda:1"])
def test_devices_are_switched_together_or_not_at_all(
    path: Path, caplog: pytest.LogCaptureFixture, only: str
) -> None:
    async def run() -> None:
        async with kept(path, TWO) as device:
            before = [slot.current for slot in device.slots]
            device.write("second", do="fail", only=only, seconds=0.1)
            device.supervisor.switch()
            await device.until(lambda: "stay as they were" in caplog.text)
            await device.settle()
            assert [slot.current for slot in device.slots] == before
            assert device.names == ["first", "first"]

    asyncio.run(run())
    assert "second cannot be used" in caplog.text


@pytest.mark.parametrize(
    ("do", "limits", "message"),
    [
        pytest.param("fail", {}, "first cannot be used", id="it says why"),
        pytest.param("die", {}, "ended with status 7", id="it dies each time"),
        pytest.param("hang", {"start_seconds": 0.3}, "was not ready after 0.3 s", id="it hangs"),
    ],
)
def test_a_first_start_that_fails_ends_all(
    path: Path, do: str, limits: dict[str, float], message: str
) -> None:
    async def run() -> None:
        async with kept(path, TWO, start=False, **limits) as device:
            device.write("first", do=do, only="cuda:1")
            with pytest.raises(WorkerFailed, match=message):
                await device.supervisor.start()
            await device.until(lambda: not device.processes)
            assert device.supervisor.trouble(1000) == "The workers could not be started"

    asyncio.run(run())


def test_a_worker_that_dies_while_it_loads_at_first_is_started_again(path: Path) -> None:
    async def run() -> None:
        async with kept(path, start=False) as device:
            device.write("first", seconds=0.3)
            starting = asyncio.create_task(device.supervisor.start())
            await device.until(lambda: device.slots and device.processes)
            device.processes[0].kill()
            await starting
            await device.settle()

    asyncio.run(run())


def test_weights_that_are_gone_when_a_worker_is_lost(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again and again, said once, and served as soon as they are there."""

    async def run() -> None:
        async with kept(path) as device:
            path.unlink()
            device.processes[0].kill()
            await device.until(lambda: device.slots[0].losses >= 4)
            assert device.names == [None]
            assert device.supervisor.trouble(60) is None
            assert "There has been no worker for" in (device.supervisor.trouble(0.2) or "")
            device.write("found again")
            device.supervisor.switch()  # which does not wait for the next try
            await device.settle()
            assert device.names == ["found again"]
            assert device.supervisor.trouble(0.2) is None

    asyncio.run(run())
    assert caplog.text.count("does not start: [Errno 2] No such file") == 1
    assert "The files have changed since: the worker for cpu has default: found again" in caplog.text


def test_no_descriptor_is_left_when_a_worker_is_lost(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def run() -> None:
        async with kept(path) as device:
            pid = device.processes[0].pid
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                os.kill(pid, signal.SIGKILL)
                await device.until(lambda: device.slots[0].losses >= 3)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await device.settle()
            assert await device.ask() == "first"

    asyncio.run(run())
    assert caplog.text.count("Too many open files") == 1
    assert caplog.text.count("ERROR") == 2  # that it was lost, and that


def test_nothing_but_the_end_stops_the_supervisor(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a step raises is said once, and the step taken again."""

    async def run() -> None:
        async with kept(path) as device:
            with monkeypatch.context() as patched:
                patched.setattr(DeviceSlot, "postpone", lambda slot: [][0])
                device.processes[0].kill()
                await device.until(lambda: "Looking after the workers failed" in caplog.text)
                await asyncio.sleep(1.2)
            await device.settle()
            assert device.supervisor.trouble(60) is None
            assert device.supervisor._owner is not None
            device.supervisor._owner.cancel()
            await asyncio.sleep(0.05)
            assert device.supervisor.trouble(60) == "What keeps the workers has ended"

    asyncio.run(run())
    assert caplog.text.count("Looking after the workers failed") == 1


def test_a_worker_that_always_dies_is_not_started_all_the_time(path: Path) -> None:
    async def run() -> None:
        async with kept(path) as device:
            device.write("next", do="flash")
            device.processes[0].kill()
            await asyncio.sleep(2)
            assert 1 <= device.slots[0].losses <= 4  # at once, and after 0.5 and 1 s
            device.write("mended")
            device.supervisor.switch()
            await device.settle()
            assert device.names == ["mended"]

    asyncio.run(run())


def test_an_end_is_noticed_although_a_child_holds_the_socket(path: Path) -> None:
    async def run() -> None:
        async with kept(path) as device:
            device.write("next", do="orphan")
            device.supervisor.switch()
            await device.until(lambda: device.slots[0].current and device.names == ["next"])
            device.write("mended")
            await device.until(lambda: device.names == ["mended"])
            await device.settle()

    asyncio.run(run())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_worker_in_trouble_while_it_finishes(path: Path, number: int) -> None:
    """An old worker that still owes an answer: the answer is an error, and the process does not stay."""

    async def run() -> None:
        async with kept(path, start=False, stall_seconds=0.5) as device:
            device.write("first", task_seconds=30)
            await device.supervisor.start()
            owed = asyncio.create_task(device.ask())
            await asyncio.sleep(0.05)
            old = device.processes[0]
            device.write("second")
            device.supervisor.switch()
            await device.until(lambda: device.names == ["second"])
            assert await device.ask() == "second"
            old.send_signal(number)
            with pytest.raises(ApiError, match="lost"):
                await owed
            await device.settle()

    asyncio.run(run())


def test_what_an_old_worker_owes_is_answered_before_it_ends(path: Path) -> None:
    async def run() -> None:
        async with kept(path, start=False) as device:
            device.write("first", task_seconds=0.5)
            await device.supervisor.start()
            owed = [asyncio.create_task(device.ask()) for _ in range(2)]
            await asyncio.sleep(0.05)
            device.write("second")
            device.supervisor.switch()
            await device.until(lambda: device.names == ["second"])
            assert await asyncio.gather(*owed) == ["first", "first"]
            await device.settle()

    asyncio.run(run())
