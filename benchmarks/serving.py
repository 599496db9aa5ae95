"""The service against the same Detector without it: bare, behind plain FastAPI, behind LitServe.

    make peers
    python benchmarks/serving.py --profile fast --max-proposals 20 --data VOCdevkit/VOC2007

Prints pictures a second and percentiles of latency for 1, 8 and 64 clients that each wait for their answer
before they send the next picture. Every contender gets the same multipart forms with the same pictures in
the same order, runs alone on the machine, and is started anew for each round; rounds begin with another
contender each, and the medians over the rounds are printed. ``bare`` is the Detector in a process of its own
without any server: decoding, detecting, results as dicts; one picture at a time for the latency, calls of
``--batch`` pictures for the throughput. The clients are this process: what share of a core it takes is
printed. So is how many cores were busy with things that have no part in this, at worst: where "others" is not
near zero, the figures say little. The other contenders are in serving_peers.py and serving_litserve.py.
"""

import asyncio
import json
import math
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
from loadtest.client import Answer, form, request
from loadtest.figures import (
    OthersTime,
    OwnTime,
    in_short,
    in_words,
    outcomes,
    percentile,
    read_images,
)
from loadtest.loops import closed_loop
from loadtest.processes import ROOT, Server, running, service
from serving_peers import WARM_UP_IMAGES, Options
from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Column, Table, counted
from detector.io.atomic_write import write_whole

PEERS = ROOT / "benchmarks" / "serving_peers.py"
LITSERVE = ROOT / "benchmarks" / "serving_litserve.py"
NAMES = {
    "bare": "bare Detector in process",
    "ours": "this service",
    "plain": "FastAPI, def endpoint",
    "locked": "FastAPI, def endpoint, lock",
    "litserve": "LitServe, batching",
}


BENCHMARK = Benchmark(
    "serving",
    "The service, beside its detector and other servers",
    "What a service adds to its detector: pictures a second and how long one takes, by how many clients ask, "
    "beside the same detector bare, behind plain FastAPI and behind LitServe.",
)


COLUMNS = (
    Column("contender"),
    Column("", "pictures/s", ".2f"),
    Column("of bare", "", ".3f"),
    Column("p50", "ms", ".1f"),
    Column("less bare's", "ms", "+.1f"),
    Column("p99", "ms", ".1f"),
    Column("detections"),
    Column("client", "% of a core", ".1f"),
    Column("others", "cores", ".2f"),
    Column("errors"),
)


@dataclass(frozen=True)
class Measured:
    """What one contender did for one number of clients in one round; seconds."""

    contender: str
    clients: int
    images: int
    rate: float
    p50: float
    p99: float
    detections: int
    outcomes: dict[str, int]
    client_share: float
    others: float
    """Cores that were busy with something else meanwhile."""


def main(
    data: Annotated[Path, arg(help="A folder with JPEG files.")] = ROOT / "examples",
    contender: Annotated[
        Sequence[str],
        UseAppendAction,
        arg(help=f"One of {', '.join(NAMES)}, several times; all if not given."),
    ] = (),
    clients: Annotated[str, arg(help="Numbers of clients, with commas.")] = "1,8,64",
    requests: Annotated[int, at_least(1), arg(help="Pictures a cell, at least two for each client.")] = 24,
    images: Annotated[int, at_least(1), arg(help="Different pictures.")] = 24,
    rounds: Annotated[int, at_least(1)] = 3,
    options: Annotated[Options, OmitArgPrefixes] = Options(profile="fast"),  # noqa: B008 (cannot be changed)
    json_file: Annotated[Path | None, arg(name="json", help="Write what each did in every round.")] = None,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a table a number of clients, and ratios to the bare Detector."""
    names = contender or list(NAMES)
    if unknown := set(names) - set(NAMES):
        raise SystemExit(f"error: unknown contender {unknown.pop()!r}: use {', '.join(NAMES)}")
    numbers = [int(number) for number in clients.split(",")]
    counts = {number: max(requests, 2 * number) for number in numbers}
    paths = picked(data, images)
    setting = f"{in_short(asdict(options))}, medians of {counted(rounds, 'round')}"
    used = saving.data(data, len(paths))
    with saving.recording(BENCHMARK, used, setting, folder=data, device=options.device) as run:
        cells: list[Measured] = []
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                cells += measure(name, paths, counts, options)
                print(f"round {number + 1}: {NAMES[name]} done", file=sys.stderr, flush=True)
                if json_file:
                    write_whole(json_file, json.dumps([asdict(cell) for cell in cells], indent=1).encode())
        for number in numbers:
            of_bare = [cell for cell in cells if cell.contender == "bare" and cell.images == counts[number]]
            title = f"{counted(number, 'client')}, {counts[number]} requests a round"
            run.show(table(title, [cell for cell in cells if cell.clients == number], of_bare, names))


def picked(data: Path, count: int) -> list[Path]:
    """Return the paths of the pictures that are sent."""
    by_name = {path.name: path for path in data.rglob("*")}
    return [by_name[name] for name in read_images(data, count)]


def measure(name: str, paths: list[Path], counts: dict[int, int], options: Options) -> list[Measured]:
    """Measure all cells of one contender in one round."""
    if name == "bare":
        return [bare(paths, count, options) for count in sorted(set(counts.values()))]
    bodies = [form({path.name: path.read_bytes()}) for path in paths]
    # The others know no deadline: nor shall ours be one that many clients on a small machine meet.
    messages = [request("/detect", *body, headers={"X-Timeout-Ms": "300000"}) for body in bodies]
    if name == "ours":
        settings = asdict(options) | {"batch": None}
        server = service(settings)
    else:
        script = [str(LITSERVE)] if name == "litserve" else [str(PEERS), name]
        command = [sys.executable, *script, *options.arguments()]
        server = running(command, {}, "/health")
    with server as ready:
        asyncio.run(closed_loop(ready.port, messages[:WARM_UP_IMAGES], 1))
        return [loaded(name, ready, messages, number, count) for number, count in counts.items()]


def loaded(name: str, server: Server, messages: list[bytes], clients: int, count: int) -> Measured:
    """Measure one cell: so many clients, until ``count`` pictures are answered."""
    own, start = OwnTime(), time.monotonic()
    others = OthersTime(psutil.Process(server.process.pid))
    work = [messages[number % len(messages)] for number in range(count)]
    answers = asyncio.run(closed_loop(server.port, work, clients))
    wall, share = time.monotonic() - start, own.share()
    good = [one for one in answers if one.outcome == "200"]
    return Measured(
        name,
        clients,
        count,
        rate=len(good) / wall,
        p50=percentile([one.seconds for one in good], 50),
        p99=percentile([one.seconds for one in good], 99),
        detections=sum(found(one) for one in good),
        outcomes=dict(outcomes(answers)),
        client_share=share,
        others=others.cores(),
    )


def bare(paths: list[Path], count: int, options: Options) -> Measured:
    """Run the Detector over the same pictures in a process of its own."""
    work = [str(paths[number % len(paths)]) for number in range(count)]
    command = [sys.executable, str(PEERS), "bare", *options.arguments(), *work]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    took: dict[str, Any] = json.loads(done.stdout)
    return Measured(
        "bare",
        0,
        count,
        rate=count / took["together"],
        p50=percentile(took["singly"], 50),
        p99=percentile(took["singly"], 99),
        detections=took["detections"],
        outcomes={"200": count},
        client_share=0.0,
        others=took["others"],
    )


def found(answer: Answer) -> int:
    """Return how many detections an answer has."""
    return len(json.loads(answer.body)["detections"])


def table(title: str, cells: list[Measured], of_bare: list[Measured], names: Sequence[str]) -> Table:
    """Return a row a contender; ratios are to the bare Detector's throughput and to its latency of one
    picture."""
    base_rate = statistics.median([cell.rate for cell in of_bare]) if of_bare else math.nan
    base_p50 = statistics.median([cell.p50 for cell in of_bare]) if of_bare else math.nan
    rows = []
    for name in names:
        mine = of_bare if name == "bare" else [cell for cell in cells if cell.contender == name]
        if not mine:
            continue
        rate, p50, p99 = (
            statistics.median([getattr(cell, field) for cell in mine]) for field in ("rate", "p50", "p99")
        )
        errors = Counter[str]()
        for cell in mine:
            errors.update({key: count for key, count in cell.outcomes.items() if key != "200"})
        rows.append(
            [
                NAMES[name],
                rate,
                rate / base_rate,
                1e3 * p50,
                1e3 * (p50 - base_p50),
                1e3 * p99,
                "/".join(str(count) for count in sorted({cell.detections for cell in mine})),
                100 * max(cell.client_share for cell in mine),
                max(cell.others for cell in mine),
                in_words(errors),
            ]
        )
    return Table.of(title, COLUMNS, rows)


if __name__ == "__main__":
    run_script(main)
