"""The runs that docs/benchmarks.md is made of, one after the other, each saved below benchmarks/runs.

    python benchmarks/run_all.py --data VOCdevkit/VOC2007 --ilsvrc ilsvrc
    python benchmarks/run_all.py --data VOCdevkit/VOC2007 --run detection --run serving

``--data`` is a folder with pictures of PASCAL VOC and their annotations; 100 are enough. Every run begins
anew; what fails for want of something (nginx, `make peers`) leaves the file of its earlier run as it is and
is told at the end. The machine has to be quiet. `make benchmarks DATA=...` does the same and then makes the
page.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import run_script

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "benchmarks" / "runs"
DATA, ILSVRC = "DATA", "ILSVRC"
"""Stand in a plan for the folders of data."""
CALLED = {DATA: "VOC", ILSVRC: "ilsvrc"}
"""What the page calls them."""
ON_A_GPU = ("gpu",)
"""Runs that are done only where they are named."""

BENCH = ("-m", "detector.cli.entry", "bench")

PLAN: dict[str, tuple[str, ...]] = {
    "detection": ("benchmarks/detection.py", "--data", DATA, "--images", "10", "--rounds", "3"),
    "bench": (*BENCH, "--data", DATA, "--images", "6", "--seconds", "12", "--clients", "4"),
    "proposals": ("benchmarks/proposals.py", "--data", DATA),
    "serving": (
        *("benchmarks/serving.py", "--data", DATA, "--max-proposals", "20", "--requests", "16"),
        *("--device", "cpu"),
    ),
    "replicas": ("benchmarks/replicas.py", "--data", DATA, "--loads", "0.5", "0.8", "1.2", "1.6"),
    "overload": (
        *("benchmarks/overload.py", "--data", DATA, "--max-proposals", "20", "--minutes", "1.5"),
        *("--device", "cpu"),
    ),
    "resilience": ("benchmarks/resilience.py", "--data", DATA, "--max-proposals", "20", "--device", "cpu"),
    "worker": ("benchmarks/worker.py",),
    "batch": (
        *("benchmarks/batch.py", "--data", ILSVRC, "--images", "4000", "--bare", "300"),
        *("--precision", "int8", "--way", "batch", "--way", "detect-killed"),
    ),
    "thresholds": ("benchmarks/thresholds.py", "--data", ILSVRC, "--every", "2"),
    "training_throughput": (
        *("benchmarks/training_throughput.py", "--batch", "8", "--runs", "3", "--device", "cpu"),
    ),
    "request_path": ("benchmarks/request_path.py", "examples/cat.jpg"),
    "gpu": ("benchmarks/gpu.py", "--data", DATA, "--no-service"),
}
"""Each run's words, in the order of the page."""


def main(
    data: Annotated[Path, arg(help="A folder in the layout of PASCAL VOC.")],
    ilsvrc: Annotated[
        Path | None, arg(help="The folder that holds ILSVRC/; without it what needs that is left out.")
    ] = None,
    run: Annotated[
        Sequence[str],
        UseAppendAction,
        arg(help=f"One of {', '.join(PLAN)}; give it again for more [all but gpu]."),
    ] = (),
) -> None:
    """Run them and say which failed; status 1 if any did."""
    if unknown := set(run) - set(PLAN):
        raise SystemExit(f"error: unknown run {unknown.pop()!r}: use {', '.join(PLAN)}")
    folders = {DATA: data, ILSVRC: ilsvrc}
    for folder in folders.values():
        if folder is not None and not folder.is_dir():
            raise SystemExit(f"error: there is no folder {folder}")
    failed = []
    for name in run or [name for name in PLAN if name not in ON_A_GPU]:
        if ILSVRC in PLAN[name] and ilsvrc is None:
            print(f"\n=== {name}: left out, it needs --ilsvrc", flush=True)
            continue
        start = time.monotonic()
        print(f"\n=== {name}", flush=True)
        done = subprocess.run([sys.executable, *words(name, folders)], cwd=ROOT, check=False)
        print(f"=== {name}: status {done.returncode} after {time.monotonic() - start:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"error: no new file of {', '.join(failed)}: what is above says why")


def words(name: str, folders: Mapping[str, Path | None]) -> list[str]:
    """Return the words of a run behind ``python``: its plan with the folders in it, and where it is saved."""
    found, naming = [], []
    for word in PLAN[name]:
        folder = folders.get(word)
        found.append(word if folder is None else str(folder.resolve()))
        if folder is not None:
            naming = ["--called", CALLED[word]]
    option = "--json" if PLAN[name][: len(BENCH)] == BENCH else "--save"
    return [*found, option, str(RUNS / f"{name}.json"), *naming]


if __name__ == "__main__":
    run_script(main)
