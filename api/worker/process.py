"""The process that owns one device. The front starts it, and exchanges :mod:`api.protocol.messages` with it.

It ends when the front says so or is gone.
"""

import argparse
import ctypes
import logging
import os
import select
import signal
import socket
import sys
import threading
from contextvars import copy_context
from dataclasses import asdict

import psutil

from api.observability import logs
from api.protocol import wire
from api.protocol.errors import ApiError
from api.protocol.messages import (
    Answer,
    Cancel,
    DeviceTask,
    Failed,
    FromWorker,
    Ready,
    Refusal,
    Report,
    WorkerSettings,
)
from api.protocol.model_info import ModelInfo
from api.worker.handlers import Result, Stopwatch, handle_task
from api.worker.loaded_model import load_model
from api.worker.task_pool import TaskPool
from api.worker.task_runner import TaskRunner
from detector.errors import DetectorError
from detector.inference.placement import choose_engine, device_of
from detector.io.decoding import Limits
from detector.scheduling.fair_queue import RequestHandle
from detector.scheduling.scheduler import Scheduler
from detector.threads import default_threads, run_alone

logger = logging.getLogger("api.worker")

REPORT_SECONDS = 0.5
_IDLE_REPORTS = 20
"""After so many reports without a task the worker gives back memory that only running networks need."""

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
FAULT = 70
"""Exit status of a worker whose device failed."""

# How long an idle GPU waits for company: far less than a batch takes. On a CPU, rows gain nothing from it.
_BATCH_TIMEOUT = {"cuda": 0.002}

# How many pictures may be ready before their turn, for each thread that makes them ready.
_AHEAD = {"cpu": 1, "cuda": 4}


class Worker:
    """One device, its models, and the tasks that it was given."""

    def __init__(self, connection: socket.socket, settings: WorkerSettings) -> None:
        """Loads the models and runs a picture through each. Raises DetectorError where that cannot be."""
        self._connection = connection
        self._sending = threading.Lock()
        self._limits = Limits(settings.max_bytes, settings.max_pixels)
        engine = choose_engine(settings.engine, settings.device, settings.precision)
        self._device = device_of(engine, settings.device)
        self._tasks: dict[int, TaskRunner] = {}
        streams = 1
        if self._device == "cpu":
            streams = settings.threads or default_threads()
            run_alone()  # this thread and all to come: the streams are what runs side by side
        self._models = {name: load_model(name, settings, streams) for name in settings.models}
        self._pool = TaskPool(
            settings.prepare_threads,
            max(2, settings.prepare_threads * _AHEAD.get(self._device.partition(":")[0], 1)),
            on_start=run_alone,
        )
        self._scheduler = Scheduler(
            streams=streams,
            batch_timeout=_BATCH_TIMEOUT.get(self._device.partition(":")[0], 0.0),
            on_start=run_alone,
            on_fault=self._die,
        )

    def run(self) -> None:
        """Serve until the front says ``stop`` or is gone."""
        models = list(self._models.values())
        infos = [ModelInfo.model_validate(model.info) for model in models]
        self._send(Ready(infos, self._device, models[0].rate))
        threading.Thread(target=self._report, name="report", daemon=True).start()
        try:
            while True:
                message = wire.receive_blocking(self._connection)
                if isinstance(message, DeviceTask):
                    self._begin(message)
                elif isinstance(message, Cancel):
                    runner = self._tasks.get(message.id)
                    if runner is not None:
                        runner.cancel()
                else:
                    return
        except (EOFError, ConnectionError):
            logger.info("The front is gone")

    def _begin(self, message: DeviceTask) -> None:
        number, task, image = message.id, message.task, message.body
        model = self._models[message.model]

        def answered(answer: Result | ApiError, stopwatch: Stopwatch) -> None:
            self._tasks.pop(number, None)
            if isinstance(answer, ApiError):
                self._send(Refusal(number, answer.status, answer.code, str(answer)))
                return
            self._send(
                Answer(
                    number,
                    **answer.about,
                    media_type=answer.media_type,
                    timing_ms=stopwatch.timing_ms,
                    stages=tuple(stopwatch.stages) if message.trace_id is not None else (),
                    body=answer.body,
                )
            )

        # Records of the log that the task writes carry the request's id.
        context = copy_context()
        context.run(logs.REQUEST_ID.set, message.request_id)
        context.run(logs.TRACE_ID.set, message.trace_id)
        runner = self._tasks[number] = TaskRunner(
            lambda stopwatch, executor: handle_task(task, model, image, self._limits, stopwatch, executor),
            RequestHandle(message.deadline, client=message.client, request=message.request),
            self._scheduler,
            self._pool,
            answered,
            context,
        )
        runner.start()

    def _report(self) -> None:
        pause, idle = threading.Event(), 0
        while not pause.wait(REPORT_SECONDS):
            load = asdict(self._scheduler.load())
            idle = 0 if self._tasks else idle + 1
            if idle == _IDLE_REPORTS:
                for model in self._models.values():
                    model.ensemble.release_memory()
            self._send(Report(**load, memory=self._memory(), log_lines_lost=logs.take_lost_lines()))

    def _memory(self) -> int:
        if self._device != "cpu":
            return int(sys.modules["torch"].cuda.memory_reserved(self._device))
        return int(psutil.Process().memory_info().rss)

    def _send(self, message: FromWorker) -> None:
        with self._sending:
            try:
                for part in wire.packed(message):
                    self._connection.sendall(part)
            except OSError:  # the front is gone, which its reader notices as well
                pass

    def _die(self, error: Exception) -> None:
        """End the process, as the device failed for good: a new one may find it well again."""
        logging.shutdown()
        os._exit(FAULT)


def main() -> int:
    """Serve the front at the other end of the socket ``--fd``. 0: a clean end; 1: the models do not load."""
    parser = argparse.ArgumentParser(description="A worker of the service; the service starts it.")
    parser.add_argument("--fd", type=int, required=True, help="socket that the front holds the other end of")
    connection = socket.socket(fileno=parser.parse_args().fd)
    _end_with_front(connection)
    settings = wire.receive_blocking(connection)
    assert isinstance(settings, WorkerSettings)
    logs.configure(settings.log_format, settings.log_level)
    try:
        worker = Worker(connection, settings)
    except DetectorError as error:
        return _failed(connection, f"the weights cannot be used: {error}")
    except Exception as error:
        logger.exception("Loading the models failed")
        return _failed(connection, f"the models do not load: {type(error).__name__}: {error}")
    worker.run()
    logging.shutdown()
    os._exit(0)  # nobody waits for what the threads may still be doing


def _end_with_front(connection: socket.socket) -> None:
    """Let the system end this process when the front ends, however that happens and whatever is under way
    here: loading, a driver that hangs, SIGSTOP. Elsewhere than on Linux the end of the socket has to do."""
    connection.set_inheritable(False)  # a child of ours must not hold it open
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        waiting = select.poll()
        waiting.register(connection, 0)
        if waiting.poll(0):  # it hung up before that
            sys.exit(0)


def _failed(connection: socket.socket, message: str) -> int:
    for part in wire.packed(Failed(message)):
        connection.sendall(part)
    return 1
