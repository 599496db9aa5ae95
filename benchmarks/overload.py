"""More load than the service can bear, for minutes: what it takes, what it refuses, and how fast.

    python benchmarks/overload.py --times 4 --minutes 5 --profile fast --max-proposals 20

First measures the capacity (pictures a second with as many waiting clients as keep it busy), then sends
pictures at a multiple of it, at random moments that do not depend on answers, each over a new connection and
with an ``X-Timeout-Ms``. Counts how every request ended and prints latencies, memory of all processes of the
service (first and last minute) and by how much the client itself ran late: its latencies contain that, for
it shares the machine. Ends with status 1 if any request got no answer, or one that the service's contract
does not have.
"""

import asyncio
import itertools
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from loadtest.client import NO_ANSWER, form, request
from loadtest.figures import OwnTime, in_short, in_words, milliseconds, outcomes, percentile, read_images
from loadtest.loops import OpenLoop, closed_loop, open_loop
from loadtest.processes import ROOT, MemoryWatch, Server, service
from tyro.conf import arg

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Cell, Column, Table

ALLOWED = {("200", None), ("429", "overloaded"), ("504", "deadline_exceeded")}
"""How a request may end here, and with which code."""
BENCHMARK = Benchmark(
    "overload",
    "More load than the service can bear",
    "What the service answers, what it refuses and how fast, when requests come at random moments at several "
    "times its capacity.",
)
GRACE = 15.0
"""Seconds past its deadline after which an answer counts as lost."""


def main(
    data: Annotated[Path, arg(help="A folder with JPEG files.")] = ROOT / "examples",
    times: Annotated[float, arg(help="So many times the capacity.")] = 4.0,
    minutes: float = 5.0,
    deadline: Annotated[float, arg(help="Seconds that each request allows.")] = 10.0,
    profile: str = "fast",
    max_proposals: int | None = None,
    device: str = "auto",
    weights: Path | None = None,
    images: Annotated[int, at_least(1), arg(help="Different pictures.")] = 24,
    measure_seconds: Annotated[float, arg(help="How long the capacity is measured.")] = 30.0,
    seed: int = 0,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print how it went; status 1 if a request was lost."""
    settings = {"profile": profile, "max_proposals": max_proposals, "device": device, "weights": weights}
    headers = {"X-Timeout-Ms": str(round(deadline * 1000))}
    messages = [
        request("/detect", *form({name: body}), headers=headers)
        for name, body in read_images(data, images).items()
    ]
    setting = f"{in_short(settings)}, {times:g} times the capacity for {minutes:g} minutes"
    used = saving.data(data, len(messages))
    with (
        saving.recording(BENCHMARK, used, setting, folder=data, device=device) as run,
        service(settings) as server,
    ):
        capacity = measured_capacity(server, messages, measure_seconds)
        print(f"capacity {capacity:.2f} pictures/s", flush=True)
        own = OwnTime()
        with MemoryWatch(server) as watch:
            sent = itertools.cycle(messages)
            went = asyncio.run(
                open_loop(
                    server.port,
                    sent,
                    times * capacity,
                    minutes * 60,
                    patience=deadline + GRACE,
                    seed=seed,
                )
            )
        result = Result(went, watch.samples, deadline, capacity, own.share(), after(server, messages[0]))
        run.show(result.table())
    sys.exit(1 if result.bad() else 0)


def measured_capacity(server: Server, messages: list[bytes], seconds: float) -> float:
    """Measure pictures a second with eight waiting clients; the first three are not timed."""
    asyncio.run(closed_loop(server.port, messages[:3], 1))
    start = time.monotonic()
    answers = asyncio.run(
        closed_loop(
            server.port, itertools.cycle(messages), 8, go_on=lambda: time.monotonic() - start < seconds
        )
    )
    good = sum(one.outcome == "200" for one in answers)
    if not good:
        raise SystemExit(f"error: no picture was answered: {in_words(outcomes(answers))}")
    return good / (time.monotonic() - start)


def after(server: Server, message: bytes) -> str:
    """Say how the service is once the load has gone: one request, and what still counts as pending."""
    (answer,) = asyncio.run(closed_loop(server.port, [message], 1))
    pending = [line for line in server.get("/metrics").text.splitlines() if line.startswith(PENDING)]
    return f"{answer.outcome} in {milliseconds(answer.seconds)} ms; {'; '.join(pending) or 'no gauges'}"


PENDING = ("detector_pending_requests", "detector_pending_regions")


@dataclass(frozen=True)
class Result:
    """How it went."""

    went: OpenLoop
    memory: list[tuple[float, int]]
    deadline: float
    capacity: float
    client_share: float
    after: str

    def kinds(self) -> dict[str, list[float]]:
        """Return the seconds of the answers, by how they ended."""
        kinds: dict[str, list[float]] = {}
        for one in self.went.answers:
            name = f"{one.outcome} {one.code}" if one.code else one.outcome
            kinds.setdefault(name, []).append(one.seconds)
        return kinds

    def bad(self) -> Counter[str]:
        """Return the requests that got no answer, or one that is none of the contract's."""
        return outcomes(one for one in self.went.answers if (one.outcome, one.code) not in ALLOWED)

    def lost(self) -> int:
        """Return the requests without an answer."""
        return sum(one.outcome in NO_ANSWER for one in self.went.answers)

    def first_and_last_minute(self) -> tuple[float, float]:
        """Return median mebibytes; of the first and last fifth where it ran for less than five minutes."""
        end = self.memory[-1][0] if self.memory else 0
        part = min(60.0, end / 5)
        first = [size for at, size in self.memory if at <= part]
        last = [size for at, size in self.memory if at >= end - part]
        return statistics.median(first or [0]) / 2**20, statistics.median(last or [0]) / 2**20

    def table(self) -> Table:
        """Return how requests ended, and how the service was."""
        late = {"(the client's own lateness)": self.went.lateness}
        rows: list[list[Cell]] = []
        for name, took in [*sorted(self.kinds().items()), *late.items()]:
            rows.append([name, len(took), *(1e3 * percentile(took, q) for q in (50, 90, 99, 100))])
        accepted = self.kinds().get("200", [])
        refused = self.kinds().get("429 overloaded", [])
        first, last = self.first_and_last_minute()
        fast = sum(seconds < 0.02 for seconds in refused)
        return Table.of(
            f"A capacity of {self.capacity:.2f} pictures a second",
            [
                Column("how it ended"),
                Column("requests"),
                *(Column(name, "ms", ".1f") for name in ("p50", "p90", "p99", "most")),
            ],
            rows,
            [
                f"Answered with detections: {len(accepted) / self._seconds():.2f} a second, "
                f"{len(accepted) / self._seconds() / self.capacity:.2f} of the capacity.",
                f"Accepted requests' p99 within the deadline of {self.deadline:g} s: "
                f"{'yes' if percentile(accepted, 99) <= self.deadline else 'NO'}.",
                f"Refused under 20 ms: {fast} of {len(refused)}.",
                f"Memory: {first:.0f} MiB in the first minute, {last:.0f} MiB in the last.",
                f"Client: {100 * self.client_share:.1f} % of a core.",
                f"Afterwards: {self.after}.",
                f"Without an answer: {self.lost()}; not in the contract: {in_words(self.bad())}.",
            ],
        )

    def _seconds(self) -> float:
        started = [one.started for one in self.went.answers]
        return max(one.started + one.seconds for one in self.went.answers) - min(started)


if __name__ == "__main__":
    run_script(main)
