"""A task whose time is over, or whose client is gone: no further stage of it is run."""

import threading
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from io import BytesIO
from time import monotonic

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from api.frontend.settings import Settings
from api.protocol.errors import ApiError
from api.protocol.messages import ClassifyTask, DetectTask, Task
from api.worker.handlers import Result, Stopwatch, handle_task
from api.worker.loaded_model import LoadedModel, load_model
from api.worker.task_pool import TaskPool
from api.worker.task_runner import TaskRunner
from detector.inference.engine import Outputs
from detector.inference.executor import Executor, ForwardRequest
from detector.io.decoding import Limits
from detector.scheduling.device_errors import Expired
from detector.scheduling.fair_queue import RequestHandle
from detector.scheduling.scheduler import Scheduler

PNG_TASK = DetectTask(0.0, 50, None, None, "image/png", None)
JSON_TASK = DetectTask(0.0, 50, None, None, "json", None)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("default", Settings(device="cpu", max_proposals=3, profile="fast").worker_settings()[0])


@pytest.fixture(scope="module")
def photograph() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()


class Countdown:
    """A check that raises when it was called so many times."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.calls = 0

    def __call__(self) -> None:
        """Raises Expired from then on."""
        self.calls += 1
        self.left -= 1
        if self.left < 0:
            raise Expired


@pytest.mark.parametrize("task", [PNG_TASK, JSON_TASK, ClassifyTask(top=2, crops=1)])
def test_a_task_ends_at_the_first_check_that_raises(
    model: LoadedModel, photograph: bytes, task: Task
) -> None:
    whole = Countdown(10**6)
    assert handle_task(task, model, photograph, Limits(), Stopwatch(whole)).body
    # The file's pieces alone are some; a check for each stage.
    few = {PNG_TASK: 20, JSON_TASK: 4}.get(task, 1)
    assert whole.calls >= few
    for times in {0, 1, 2, 3, whole.calls // 2, whole.calls - 1}:
        if 0 <= times < whole.calls:
            check = Countdown(times)
            with pytest.raises(Expired):
                handle_task(task, model, photograph, Limits(), Stopwatch(check))
            assert check.calls == times + 1, "nothing went on after it"


def test_a_drawn_jpeg_that_no_encoder_writes_is_refused(model: LoadedModel) -> None:
    file = BytesIO()
    Image.new("RGB", (1, 65535), "white").save(file, "PNG")
    task = DetectTask(0.0, 5, None, None, "image/jpeg", None)
    with pytest.raises(ApiError, match="image/png") as caught:
        handle_task(task, model, file.getvalue(), Limits(), Stopwatch())
    assert (caught.value.status, caught.value.code) == (422, "invalid_parameter")


@pytest.fixture
def machinery() -> Iterator[tuple[Scheduler, TaskPool]]:
    scheduler, pool = Scheduler(), TaskPool(1, ahead=2)
    yield scheduler, pool
    pool.close()
    scheduler.close()


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [("expires", 504, "deadline_exceeded"), ("is cancelled", 503, "draining")],
)
def test_a_task_that_ends_in_one_stage_does_not_begin_the_next(
    machinery: tuple[Scheduler, TaskPool], what: str, status: int, code: str
) -> None:
    """It is told while a stage works, by its clock or by the front, as in the worker."""
    handle = RequestHandle(monotonic() + 60)
    answers: list[Result | ApiError] = []
    answered = threading.Event()
    done: list[str] = []

    def task(stopwatch: Stopwatch, executor: Executor) -> Result:
        done.append("decode")
        if what == "expires":
            handle.deadline = monotonic()
        else:
            runner.cancel()
        stopwatch.enter("proposals")
        done.append("proposals")
        return Result({}, "text/plain", b"")

    def answer(result: Result | ApiError, stopwatch: Stopwatch) -> None:
        answers.append(result)
        answered.set()

    runner = TaskRunner(task, handle, *machinery, answer, copy_context())
    runner.start()
    assert answered.wait(60)
    assert done == ["decode"]
    [error] = answers
    assert isinstance(error, ApiError)
    assert (error.status, error.code) == (status, code)


def test_networks_wait_for_the_device_without_a_turn(
    machinery: tuple[Scheduler, TaskPool], model: LoadedModel, photograph: bytes
) -> None:
    """One turn, and a task that waits in the device: another task runs meanwhile, and all are answered."""
    scheduler, pool = machinery
    other_ran, answered = threading.Event(), threading.Semaphore(0)
    answers: list[Result | ApiError] = []

    def answer(result: Result | ApiError, stopwatch: Stopwatch) -> None:
        answers.append(result)
        answered.release()

    def waits(stopwatch: Stopwatch, executor: Executor) -> Result:
        def held(request: ForwardRequest) -> Outputs:
            def make_crops(first: int, last: int) -> Tensor:
                assert other_ran.wait(60), "nothing else runs while this waits"
                return request.make_crops(first, last)

            return executor(replace(request, make_crops=make_crops))

        return handle_task(JSON_TASK, model, photograph, Limits(), stopwatch, held)

    def other(stopwatch: Stopwatch, executor: Executor) -> Result:
        other_ran.set()
        return Result({}, "text/plain", b"")

    for task in (waits, other):
        TaskRunner(task, RequestHandle(monotonic() + 60), scheduler, pool, answer, copy_context()).start()
    for _ in range(2):
        assert answered.acquire(timeout=60)
    alone = handle_task(JSON_TASK, model, photograph, Limits(), Stopwatch())
    assert sorted(answer.body for answer in answers) == sorted([b"", alone.body])  # type: ignore[union-attr]
