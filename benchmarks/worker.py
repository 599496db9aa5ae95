"""What the worker itself costs: many small tasks in flight, through its threads and its scheduler.

    python benchmarks/worker.py --tasks 1024 --in-flight 256

No server, no sockets. ``tiny`` classifies with a network that costs next to nothing: what is left is
decoding, handing over between threads, making batches. ``detect`` runs the shipped weights by ``fast`` with
few regions. Prints, as medians of several rounds, tasks a second, milliseconds of CPU time a task (which
other work on the machine changes little), the most threads at once, and the growth of the process's memory.
"""

import statistics
import sys
import threading
import time
from contextvars import copy_context
from io import BytesIO
from typing import Annotated, Any

import numpy as np
import psutil
from PIL import Image
from torch import Tensor, nn
from tyro.conf import arg

from api.frontend.settings import Settings
from api.protocol.messages import ClassifyTask, DetectTask, Task
from api.worker.handlers import handle_task
from api.worker.loaded_model import LoadedModel, load_model
from api.worker.task_pool import TaskPool
from api.worker.task_runner import TaskRunner
from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Cell, Column, Table, counted
from detector.evaluation.run_record import Data
from detector.inference.classifier import Classifier
from detector.inference.preprocessing import Preprocessing
from detector.io.decoding import Limits
from detector.models.backbone import CHANNELS, Backbone
from detector.models.checkpoint import Checkpoint
from detector.models.metadata import Metadata
from detector.scheduling.fair_queue import RequestHandle
from detector.scheduling.scheduler import Scheduler
from detector.structures.classes import ClassList
from detector.threads import run_alone

REGIONS = 3
BENCHMARK = Benchmark(
    "worker",
    "What the worker itself costs",
    "How many small tasks a second go through the threads and the scheduler of the service's worker: `tiny` "
    "with a network that costs next to nothing, `detect` with the shipped weights and few regions.",
)


FIGURES = {
    "tasks_a_second": Column("", "tasks/s", ".1f"),
    "cpu_ms_a_task": Column("CPU", "ms/task", ".2f"),
    "threads": Column("threads", "", ".0f"),
    "mib_more": Column("more memory", "MiB", ".1f"),
}
"""What a round tells, and the column of it."""


class _Mean(nn.Module):
    """Crops [N,3,S,S] -> maps [N,1024,1,1] of their mean colour."""

    def forward(self, crops: Tensor) -> Tensor:
        return crops.mean(dim=(2, 3))[:, :1, None, None].expand(-1, CHANNELS, 1, 1)


def main(
    tasks: Annotated[int, at_least(1), arg(help="Tasks a round.")] = 1024,
    in_flight: Annotated[int, at_least(1), arg(help="Tasks that are submitted and not answered.")] = 256,
    rounds: Annotated[int, at_least(1), arg(help="Rounds whose median is printed.")] = 5,
    threads: Annotated[int, at_least(1), arg(help="Threads for preprocessing.")] = 2,
    streams: Annotated[int, at_least(1), arg(help="Batches at once.")] = 2,
    kind: Annotated[str, arg(help="tiny, detect or both.")] = "both",
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a line for each kind of task."""
    run_alone()
    settings = Settings(device="cpu", max_proposals=REGIONS, profile="fast")
    model = load_model("default", settings.worker_settings()[0], streams)
    kinds: dict[str, tuple[LoadedModel, Task]] = {
        "tiny": (
            LoadedModel(model.ensemble, model.detector, tiny_classifier(), {}, 0.0),
            ClassifyTask(top=1, crops=1),
        ),
        "detect": (model, DetectTask(0.3, 10, None, None, "json", None)),
    }
    how = f"{counted(threads, 'thread')}, {streams} batches at once, medians of {counted(rounds, 'round')}"
    setting = f"{in_flight} tasks in flight, {how}"
    with saving.recording(BENCHMARK, Data("a picture that the script makes"), setting) as recording:
        rows: list[list[Cell]] = []
        for name, (loaded, task) in kinds.items():
            if kind in (name, "both"):
                count = tasks if name == "tiny" else max(in_flight, tasks // 4)
                done = [run(loaded, task, count, in_flight, threads, streams) for _ in range(rounds)]
                medians = [statistics.median(one[key] for one in done) for key in FIGURES]
                rows.append([name, count, *medians])
                print(f"{name}: done", file=sys.stderr, flush=True)
        recording.show(Table.of("", [Column("kind"), Column("tasks"), *FIGURES.values()], rows))


def tiny_classifier() -> Classifier:
    """Return a classifier of ten classes whose network costs next to nothing."""
    backbone = Backbone(nn.Sequential(_Mean()), 10, dropout=0)
    classes = ClassList.of([f"class {number}" for number in range(10)])
    metadata = Metadata("tiny", "made", Preprocessing((0, 0, 0), (1, 1, 1), size=16, context=1), classes)
    return Classifier(Checkpoint(backbone, metadata), device="cpu")


def run(
    model: LoadedModel, task: Task, count: int, in_flight: int, threads: int, streams: int
) -> dict[str, float]:
    """Have so many tasks done; figures of the round."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(file, "JPEG")
    data, limits = file.getvalue(), Limits()
    pool = TaskPool(threads, max(2, threads), on_start=run_alone)
    scheduler = Scheduler(streams=streams, on_start=run_alone)
    free = threading.Semaphore(in_flight)
    left = threading.Semaphore(0)
    errors: list[Any] = []
    process = psutil.Process()
    memory, most_memory, most_threads = process.memory_info().rss, 0, 0

    def answered(answer: Any, stopwatch: Any) -> None:
        if not hasattr(answer, "body"):
            errors.append(answer)
        free.release()
        left.release()

    start, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        free.acquire()
        TaskRunner(
            lambda stopwatch, executor: handle_task(task, model, data, limits, stopwatch, executor),
            RequestHandle(time.monotonic() + 600, client=number % 8),
            scheduler,
            pool,
            answered,
            copy_context(),
        ).start()
        if number % 16 == 0:
            most_threads = max(most_threads, threading.active_count())
            most_memory = max(most_memory, process.memory_info().rss)
    for _ in range(count):
        left.acquire()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    pool.close()
    scheduler.close()
    if errors:
        raise SystemExit(f"error: {len(errors)} tasks failed, the first with {errors[0]}")
    return {
        "tasks_a_second": count / seconds,
        "cpu_ms_a_task": 1000 * cpu / count,
        "threads": most_threads,
        "mib_more": (max(most_memory, process.memory_info().rss) - memory) / 2**20,
    }


if __name__ == "__main__":
    run_script(main)
