"""Everything that is measured on a GPU, in one command.

    python benchmarks/gpu.py

1. Crops a second through the whole network by batch and precision, against eager float32 in batches of the
   same size, and which share of the device's arithmetic and memory that is.
2. Whole pictures a second, end to end, one after the other and several in flight.
3. The service: benchmarks/overload.py and benchmarks/resilience.py on the same device.

The limits of the device are measured too: a matrix product in the same precision, a copy in its memory. With
--device cpu it runs on a CPU, to try the script.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
from tyro.conf import arg

from detector import load_detector
from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Cell, Column, Table, counted
from detector.graphs.calibration import pictures_of
from detector.inference.torch_engine import choose_device
from detector.io.decoding import RGB
from detector.models.checkpoint import load_checkpoint
from detector.pretrained import SHIPPED

MULTIPLY_ADDS = 1.502e9
"""Of a crop (arXiv 1409.4842, table 1)."""

ACTIVATIONS = 6.6e6
"""Numbers that the layers of a crop write, about: each is written once and read once."""


BENCHMARK = Benchmark(
    "gpu",
    "A GPU",
    "How many crops a second go through the whole network by batch and precision, beside eager float32, "
    "which share of the device's arithmetic and memory that is, and how many whole pictures a second.",
)


def main(
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "cuda",
    data: Annotated[Path | None, arg(help="A folder of pictures [two of the package].")] = None,
    batches: Annotated[tuple[int, ...], arg(help="Crops a batch.")] = (16, 64, 128, 256, 512),
    rounds: Annotated[int, at_least(1), arg(help="Rounds; medians count.")] = 5,
    compile: Annotated[bool, arg(help="Compiled trunks too: half a minute each.")] = False,
    service: Annotated[bool, arg(help="The scripts of the service too.")] = True,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a table of crops and one of pictures, then what the scripts of the service print."""
    chosen = choose_device(device)
    some = pictures_of(data, 16)
    used, setting = saving.data(data, len(some)), f"torch, medians of {counted(rounds, 'round')}"
    with saving.recording(BENCHMARK, used, setting, folder=data, device=str(chosen)) as run:
        run.show(crops(chosen, batches, rounds, compiled=compile))
        run.show(pictures(chosen, some, rounds))
    if service:
        for script in ("overload.py", "resilience.py"):
            print(f"\n{script}", flush=True)
            command = [sys.executable, str(Path(__file__).with_name(script)), "--device", str(chosen)]
            subprocess.run(command, check=False)


def crops(device: torch.device, batches: Sequence[int], rounds: int, *, compiled: bool) -> Table:
    """Measure crops a second by batch and precision; a CUDA graph of each where there is a GPU."""
    trunk = load_checkpoint(SHIPPED).backbone.features.to(device).eval()
    kinds: list[tuple[str, torch.dtype, bool]] = [("eager", torch.float32, False)]
    for dtype in (
        (torch.float32, torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.float32,)
    ):
        kinds.append(("channels_last", dtype, False))
        if device.type == "cuda":
            kinds.append(("CUDA graph", dtype, False))
        if compiled:
            kinds.append(("compiled", dtype, True))
    lines: list[list[Cell]] = []
    for batch in batches:
        eager = 0.0
        for how, dtype, compile_it in kinds:
            plain = torch.randn(batch, 3, 224, 224, device=device, dtype=dtype)
            layout = torch.contiguous_format if how == "eager" else torch.channels_last
            network = trunk.to(dtype).to(memory_format=layout)
            rows = plain.to(memory_format=layout)
            with torch.inference_mode(not compile_it), torch.no_grad():
                if compile_it:
                    network = torch.compile(network, options={"freezing": True})
                run = captured(network, rows) if how == "CUDA graph" else lambda n=network, r=rows: n(r)
                rate = batch / seconds(run, device, rounds)
            eager = eager or rate
            arithmetic = rate * 2 * MULTIPLY_ADDS / flops(device, dtype)
            memory = rate * 2 * ACTIVATIONS * dtype.itemsize / bandwidth(device)
            name = str(dtype).removeprefix("torch.")
            lines.append([batch, how, name, rate, rate / eager, 100 * arithmetic, 100 * memory])
            trunk = trunk.float()
        print(f"batches of {batch}: done", file=sys.stderr, flush=True)
    return Table.of(
        "Crops of 224 x 224",
        [
            Column("batch"),
            Column("how"),
            Column("precision"),
            Column("", "crops/s", ".0f"),
            Column("to eager", "", ".2f"),
            Column("arithmetic", "%", ".1f"),
            Column("memory", "%", ".1f"),
        ],
        lines,
    )


def captured(network: torch.nn.Module, rows: torch.Tensor) -> Callable[[], object]:
    """Return what replays one forward pass as a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            network(rows)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(rows)
    return graph.replay


def pictures(device: torch.device, some: Sequence[RGB], rounds: int) -> Table:
    """Measure whole pictures a second of each profile, one after the other and four in flight."""
    detector = load_detector(engine="torch", device=str(device))
    rows: list[list[Cell]] = []
    for profile in ("fast", "balanced", "thorough"):
        for flying in (1, 4):
            with ThreadPoolExecutor(flying) as pool:

                def run(name: str = profile, threads: ThreadPoolExecutor = pool) -> object:
                    return list(threads.map(lambda image: detector.detect([image], profile=name), some))

                rows.append([profile, flying, len(some) / seconds(run, device, rounds)])
        print(f"{profile}: done", file=sys.stderr, flush=True)
    return Table.of(
        "Whole pictures", [Column("profile"), Column("in flight"), Column("", "pictures/s", ".2f")], rows
    )


def seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Return the median seconds of a run, after one that warms up."""
    times = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:
            times.append(time.perf_counter() - start)
    return median(times)


def flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations a second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / seconds(lambda: a @ a, device, 3)


def bandwidth(device: torch.device) -> float:
    """Return the bytes a second that a copy reads and writes."""
    count = 1 << (28 if device.type == "cuda" else 24)
    a = torch.zeros(count, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / seconds(lambda: b.copy_(a), device, 3)


if __name__ == "__main__":
    run_script(main)
