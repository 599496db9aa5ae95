"""`detector batch` on a folder of pictures: how fast, in how much memory, and what kills cost.

    python benchmarks/batch.py --data pictures --images 4000

1. Pictures a second of the bare `Detector.stream`, of `detector detect --jsonl` and of `detector batch`,
   each in a process of its own, whose start (some seconds) is part of it. They take turns, round by round;
   medians. Memory is the largest resident set in the first and in the last quarter of a run: flat memory is
   the same in both, where a quarter is much longer than the start.
2. `detector batch` killed (`kill -9`) when a part of its shards is there, and started again, until it is
   done; its rows are compared with those of a run that nobody disturbed.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import psutil
import pyarrow.parquet as pq
from tyro.conf import arg

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Column, Table, counted
from detector.io.image_paths import images_below
from detector.options import Engine, Precision, Profile
from detector.pretrained import SHIPPED

_SECONDS = 0.1  # from sample to sample

STREAM = """
import sys
from pathlib import Path
from detector import load_detector

weights, profile, engine, precision, listed = sys.argv[1:]
detector = load_detector(weights, profile=profile, engine=engine, precision=precision)
count = sum(1 for _ in detector.stream(Path(listed).read_text().splitlines(), return_exceptions=True))
"""
"""What a user of the library writes."""

BENCHMARK = Benchmark(
    "batch",
    "Very many pictures: `detector batch`",
    "What `detector batch` costs beside the bare `Detector.stream`, in how much memory, and whether a job "
    "that is killed and started again ends with the same rows.",
)

DETECTOR = (sys.executable, "-m", "detector.cli.entry")


@dataclass(frozen=True)
class Run:
    """A process that ended well: how long it took, and its memory in MiB in the first and last quarter."""

    seconds: float
    first_memory: float
    last_memory: float


def main(
    data: Annotated[Path, arg(help="A folder with pictures.")] = Path(__file__).parents[1] / "examples",
    images: Annotated[int, at_least(1), arg(help="How many of them, at most.")] = 12,
    weights: Annotated[Path, arg(help="Checkpoint.")] = SHIPPED,
    profile: Annotated[Profile, arg(help="Where to look.")] = Profile.FAST,
    engine: Annotated[Engine, arg(help="What runs the network.")] = Engine.AUTO,
    precision: Annotated[Precision, arg(help="What it computes in.")] = Precision.AUTO,
    shard_size: Annotated[int, at_least(1), arg(help="Pictures a shard.")] = 100,
    rounds: Annotated[int, at_least(1), arg(help="Runs of each; medians count.")] = 1,
    kills: Annotated[int, at_least(0), arg(help="How often the disturbed run is killed.")] = 2,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a table of the three ways, and what became of the run that was killed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = folder / "pictures.txt"
        paths = [path.resolve() for path in list(images_below(data))[:images]]
        listed.write_text("".join(f"{path}\n" for path in paths))
        common = ("--weights", weights, "--profile", profile, "--engine", engine, "--precision", precision)
        batch = (*DETECTOR, "batch", listed, *common, "--shard-size", shard_size, "--output")
        setting = f"{profile}, engine {engine}, precision {precision}, medians of {counted(rounds, 'round')}"
        with saving.recording(BENCHMARK, saving.data(data, len(paths)), setting, folder=data) as run:
            runs: dict[str, list[Run]] = {
                "Detector.stream": [],
                "detector detect --jsonl": [],
                "detector batch": [],
            }
            for number in range(rounds):
                stream = (sys.executable, "-c", STREAM, weights, profile, engine, precision, listed)
                runs["Detector.stream"].append(measure(stream))
                lines = folder / f"{number}.jsonl"
                detect = (*DETECTOR, "detect", listed, *common, "--jsonl", lines)
                runs["detector detect --jsonl"].append(measure(detect))
                runs["detector batch"].append(measure((*batch, folder / f"round{number}")))
            run.show(table(runs, len(paths)))
            if kills:
                disturbed = disturb(batch, folder / "disturbed", kills, -(-len(paths) // shard_size))
                run.show(
                    replace(disturbed, notes=(compared(rows(folder / "disturbed"), rows(folder / "round0")),))
                )


def measure(command: Sequence[object]) -> Run:
    """Run a command to its end; a picture that cannot be read is none of its faults. Raises RuntimeError."""
    samples = []
    start = time.perf_counter()
    process = psutil.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None:
        try:
            samples.append(process.memory_info().rss / 2**20)
        except psutil.Error:
            break
        time.sleep(_SECONDS)
    told = process.communicate()[1]
    seconds = time.perf_counter() - start
    if process.returncode not in (0, 1) or "Traceback" in told:
        raise RuntimeError(told)
    quarter = max(1, len(samples) // 4)
    return Run(seconds, max(samples[:quarter]), max(samples[-quarter:]))


def table(runs: dict[str, list[Run]], pictures: int) -> Table:
    """Return the table of medians of the rounds, each beside the first way."""
    bare = median(run.seconds for run in runs["Detector.stream"])
    lines = []
    for way, of_way in runs.items():
        seconds = median(run.seconds for run in of_way)
        memory = (median(getattr(run, name) for run in of_way) for name in ("first_memory", "last_memory"))
        lines.append([way, pictures / seconds, bare / seconds, *memory])
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


def disturb(batch: Sequence[object], output: Path, kills: int, shards: int) -> Table:
    """Run a job to its end, killing it as soon as shares of its shards are there; return how that went."""
    lines: list[tuple[str, int, float]] = []
    for number in range(1, kills + 1):
        wanted = number * shards // (kills + 1)
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, (*batch, output))), stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(output.glob("part-*"))) < wanted:
            time.sleep(_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines.append(("killed", len(list(output.glob("part-*"))), time.perf_counter() - start))
    last = measure((*batch, output))
    lines.append(("to its end", len(list(output.glob("part-*"))), last.seconds))
    return Table.of(
        "A job that is killed and started again",
        [Column("start"), Column(f"shards of {shards}"), Column("took", "s", ".1f")],
        lines,
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a job."""
    return pq.read_table(folder).to_pylist()


def compared(disturbed: list[dict[str, Any]], undisturbed: list[dict[str, Any]]) -> str:
    """Say whether two runs have the same pictures in the same order, and how many rows differ in anything."""
    names = [row["image"] for row in disturbed]
    if names != [row["image"] for row in undisturbed]:
        return f"DIFFERENT PICTURES: {len(disturbed)} rows against {len(undisturbed)}"
    differing = sum(one != other for one, other in zip(disturbed, undisturbed, strict=True))
    return f"the same {len(names)} pictures, each once; rows that differ in anything: {differing}"


if __name__ == "__main__":
    run_script(main)
