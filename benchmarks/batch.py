"""Very many pictures by `detector detect --jsonl` and by `detector batch`: how fast, in how much memory, and
what kills cost.

    python benchmarks/batch.py --data pictures --images 4000
    python benchmarks/batch.py --data pictures --images 4000 --bare 300 --way batch --way detect-killed
    python benchmarks/batch.py --data pictures --images 300 --way batch --way ray-1 --way ray-2

Each way is a process of its own, whose start (some seconds) is part of its time; they take turns, round by
round; medians. The bare `Detector.stream`, what a user of the library writes, is what they are measured by:
its start does not count, and with `--bare` it looks at so many pictures evenly taken from all. Memory is the
largest resident set in the first and in the last quarter of the time: flat memory is the same in both, where
a quarter is much longer than the start. `ray-1` and `ray-2` are `detector batch` on a local Ray cluster with
so many workers of one processor each; their memory is that of the process that drives them.

What is killed (`kill -9`, two times unless said otherwise, each time a share of the pictures is done) is
started again until it is done. Then all ways are compared: the same pictures, in the same order, each once,
and the same objects.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import psutil
import pyarrow.parquet as pq
from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Column, Table, counted
from detector.io.image_paths import images_below
from detector.options import Engine, Precision, Profile
from detector.pretrained import SHIPPED

_SECONDS = 0.1  # from sample to sample

STREAM = """
import sys, time
from pathlib import Path
from detector import load_detector

weights, profile, engine, precision, listed = sys.argv[1:]
detector = load_detector(weights, profile=profile, engine=engine, precision=precision)
pictures = Path(listed).read_text().splitlines()
next(detector.stream(pictures[:1], return_exceptions=True))  # what the first one costs is start
start = time.perf_counter()
count = sum(1 for _ in detector.stream(pictures, return_exceptions=True))
print(count / (time.perf_counter() - start))
"""
"""What a user of the library writes. Prints pictures a second."""

BENCHMARK = Benchmark(
    "batch",
    "Very many pictures: `detector detect --jsonl` and `detector batch`",
    "What both cost beside the bare `Detector.stream`, in how much memory, and whether runs that are killed "
    "and started again end with the same rows.",
)

DETECTOR = (sys.executable, "-m", "detector.cli.entry")

Told = tuple[str, list[tuple[Any, ...]]]
"""A picture, and of each of its objects label, score and corners."""

WayName = Literal["detect", "batch", "detect-killed", "batch-killed", "ray-1", "ray-2"]
USUAL: tuple[WayName, ...] = ("detect", "batch", "detect-killed", "batch-killed")


@dataclass(frozen=True)
class Run:
    """A way to its end: how long it took with all its starts, and its memory in MiB in the first and last
    quarter of that."""

    seconds: float
    first_memory: float
    last_memory: float


@dataclass(frozen=True)
class Way:
    """A command that does all pictures, and goes on where it was killed: how many pictures lie there, and the
    rows."""

    command: tuple[object, ...]
    done: Callable[[], int]
    rows: Callable[[], list[Told]]


def main(
    data: Annotated[Path, arg(help="A folder with pictures.")] = Path(__file__).parents[1] / "examples",
    images: Annotated[int, at_least(1), arg(help="How many of them, at most.")] = 12,
    way: Annotated[
        Sequence[WayName], UseAppendAction, arg(help="Give it again for more [all but those of Ray].")
    ] = (),
    bare: Annotated[int | None, at_least(1), arg(help="Pictures of the bare stream, at most [all].")] = None,
    weights: Annotated[Path, arg(help="Checkpoint.")] = SHIPPED,
    profile: Annotated[Profile, arg(help="Where to look.")] = Profile.FAST,
    engine: Annotated[Engine, arg(help="What runs the network.")] = Engine.AUTO,
    precision: Annotated[Precision, arg(help="What it computes in.")] = Precision.AUTO,
    shard_size: Annotated[int, at_least(1), arg(help="Pictures a shard.")] = 100,
    rounds: Annotated[int, at_least(1), arg(help="Runs of each; medians count.")] = 1,
    kills: Annotated[int, at_least(1), arg(help="How often a run that is killed is.")] = 2,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a table of the ways, and whether they found the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed, sample = folder / "pictures.txt", folder / "sample.txt"
        paths = [path.resolve() for path in list(images_below(data))[:images]]
        listed.write_text("".join(f"{path}\n" for path in paths))
        step = -(-len(paths) // (bare or len(paths)))
        sample.write_text("".join(f"{path}\n" for path in paths[::step]))
        options = ("--weights", weights, "--profile", profile, "--engine", engine, "--precision", precision)
        setting = f"{profile}, engine {engine}, precision {precision}, medians of {counted(rounds, 'round')}"
        with saving.recording(BENCHMARK, saving.data(data, len(paths)), setting, folder=data) as run:
            rates: list[float] = []
            runs: dict[WayName, list[Run]] = {one: [] for one in way or USUAL}
            rows: dict[WayName, list[Told]] = {}
            for number in range(rounds):
                stream = (sys.executable, "-c", STREAM, weights, profile, engine, precision, sample)
                told = subprocess.run(list(map(str, stream)), check=True, stdout=subprocess.PIPE, text=True)
                rates.append(float(told.stdout))
                for one, of_way in runs.items():
                    output = folder / f"{one}-{number}"
                    parts = kills + 1 if one.endswith("-killed") else 1
                    done = made(one, listed, options, output, shard_size)
                    of_way.append(to_its_end(done, [len(paths) * k // parts for k in range(1, parts)]))
                    rows[one] = done.rows()
            shown = table(median(rates), runs, len(paths))
            run.show(replace(shown, notes=compared(rows)))


def made(name: WayName, listed: Path, options: tuple[object, ...], output: Path, shard_size: int) -> Way:
    """Return a way that leaves its results at ``output``."""
    if not name.startswith("detect"):
        command = (*DETECTOR, "batch", listed, *options, "--shard-size", shard_size, "--output", output)
        _, on_ray, workers = name.partition("ray-")
        cluster = ("--runner", "ray", "--ray-address", "local", "--workers", workers, "--worker-cpus", 1)
        return Way(
            (*command, *cluster) if on_ray else command,
            lambda: shard_size * len(list(output.glob("part-*"))),
            lambda: [told(row) for row in pq.read_table(output).to_pylist() if row["error"] is None],
        )
    resumed = ("--resume",) if name.endswith("-killed") else ()

    def lines() -> list[bytes]:
        return output.read_bytes().splitlines() if output.exists() else []

    return Way(
        (*DETECTOR, "detect", listed, *options, "--jsonl", output, *resumed),
        lambda: len(lines()),
        lambda: [told(json.loads(line)) for line in lines()],
    )


def told(row: dict[str, Any]) -> Told:
    """Return what a row says of its picture in a form that both ways have in common."""
    return row["image"], [
        (one["label"], round(one["score"], 4), *(round(side, 1) for side in one["box"].values()))
        for one in row["detections"]
    ]


def to_its_end(way: Way, kill_at: Sequence[int]) -> Run:
    """Run a way to its end, killed as soon as so many pictures are done. A picture that cannot be read is
    none of its faults. Raises RuntimeError."""
    samples: list[float] = []
    start = time.perf_counter()
    for wanted in (*kill_at, None):
        with tempfile.TemporaryFile("w+") as said:
            process = psutil.Popen(list(map(str, way.command)), stdout=subprocess.DEVNULL, stderr=said)
            killed = False
            while process.poll() is None and not killed:
                try:
                    samples.append(process.memory_info().rss / 2**20)
                except psutil.Error:
                    break
                time.sleep(_SECONDS)
                if killed := wanted is not None and way.done() >= wanted:
                    process.send_signal(signal.SIGKILL)
            said.seek(0)
            if process.wait() not in (0, 1) and not killed:
                raise RuntimeError(said.read())
    seconds = time.perf_counter() - start
    quarter = max(1, len(samples) // 4)
    return Run(seconds, max(samples[:quarter]), max(samples[-quarter:]))


def table(bare: float, runs: dict[WayName, list[Run]], pictures: int) -> Table:
    """Return the table of medians of the rounds, each beside the bare stream's pictures a second."""
    lines: list[list[Any]] = [["bare Detector.stream", bare, 1.0, None, None]]
    for name, of_way in runs.items():
        rate = pictures / median(run.seconds for run in of_way)
        memory = (median(getattr(run, part) for run in of_way) for part in ("first_memory", "last_memory"))
        lines.append([name, rate, rate / bare, *memory])
    return Table.of(
        "",
        [
            Column("way"),
            Column("", "pictures/s", ".2f"),
            Column("of the bare stream", "", ".3f"),
            Column("first quarter", "MiB", ".0f"),
            Column("last quarter", "MiB", ".0f"),
        ],
        lines,
    )


def compared(rows: dict[WayName, list[Told]]) -> tuple[str, ...]:
    """Say of each way and the next whether they have the same pictures in the same order, and of how many
    they say something else."""
    notes = []
    for (one, ours), (other, theirs) in pairwise(rows.items()):
        if [name for name, _ in ours] != [name for name, _ in theirs]:
            notes.append(f"{one}, {other}: DIFFERENT PICTURES, {len(ours)} rows and {len(theirs)}")
        else:
            differing = sum(mine != their for mine, their in zip(ours, theirs, strict=True))
            notes.append(
                f"{one}, {other}: the same {len(ours)} pictures, each once; other objects in {differing}"
            )
    return tuple(notes)


if __name__ == "__main__":
    run_script(main)
