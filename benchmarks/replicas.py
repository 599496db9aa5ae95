"""One replica of the service, and several behind nginx, at given arrival rates: what they answer, how fast,
and what a queueing model predicts.

    python benchmarks/replicas.py --data VOC --loads 0.5 0.8 1.2 1.6

Each replica has one thread of the network and one that decodes, so that two on two cores can do twice as much
as one. First measures one replica: the time of a picture alone (mean and spread) and the most it can do; then
sends whole pictures to /classify at random moments that do not depend on answers, at multiples of that most,
to the replica itself and then to all of them behind nginx (docker/nginx). The model (loadtest.queueing) takes
a replica for a server that is busy for the reciprocal of the most it can do; a predicted time is the wait in
the model's queue and the mean time of a picture alone. Its queue is a common one; nginx's are one at each
replica, which takes somewhat longer.

Needs nginx. Ends with status 1 if any request got no answer.
"""

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from loadtest import balancer
from loadtest.client import NO_ANSWER, Answer, request
from loadtest.figures import (
    OthersTime,
    in_words,
    milliseconds,
    outcomes,
    percentile,
    read_images,
)
from loadtest.loops import closed_loop, open_loop
from loadtest.processes import ROOT, service
from loadtest.queueing import Queue
from tyro.conf import arg

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Cell, Column, Table

DEADLINE = 10.0
"""Seconds that each request allows."""
BENCHMARK = Benchmark(
    "replicas",
    "One replica, and several behind nginx",
    "What one replica of the service and several behind nginx answer at given arrival rates, and what a "
    "queueing model predicts.",
)
GRACE = 5.0
"""Seconds past that after which an answer counts as lost."""
SETTINGS = {"device": "cpu", "threads": 1, "prepare_threads": 1}


def main(
    data: Annotated[Path, arg(help="A folder with JPEG files.")] = ROOT / "examples",
    loads: Annotated[
        tuple[float, ...], arg(help="Arrival rates, as multiples of the most that one replica can do.")
    ] = (0.5, 0.8, 1.2, 1.6),
    seconds: Annotated[float, arg(help="How long each rate lasts.")] = 15.0,
    replicas: Annotated[int, at_least(2), arg(help="So many behind nginx.")] = 2,
    images: Annotated[int, at_least(1), arg(help="Different pictures.")] = 24,
    measure_seconds: Annotated[float, arg(help="How long one replica is measured, alone and busy.")] = 8.0,
    seed: int = 0,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a row for each rate; status 1 if a request was lost."""
    if not balancer.installed():
        raise SystemExit("error: nginx is not installed (on Debian: apt-get install nginx-light)")
    headers = {"X-Timeout-Ms": str(round(DEADLINE * 1000))}
    messages = [request("/classify", body, headers=headers) for body in read_images(data, images).values()]
    setting = f"/classify, one thread a replica, {seconds:g} s at each rate"
    with (
        saving.recording(BENCHMARK, saving.data(data, len(messages)), setting, folder=data) as run,
        ExitStack() as stack,
    ):
        ports = [stack.enter_context(service(SETTINGS)).port for _ in range(replicas)]
        port = stack.enter_context(balancer.balanced(ports))
        for each in ports:
            warm_up(each, messages)
        others = OthersTime()
        replica = measured_replica(ports[0], messages, measure_seconds)
        rows = [Row.at(replica, load, 1, ports[0], messages, seconds, seed) for load in loads]
        rows += [Row.at(replica, load, replicas, port, messages, seconds, seed) for load in loads]
        others_took = f"Others on this machine took {others.cores():.2f} cores meanwhile."
        run.show(Table.of("", Row.COLUMNS, [row.cells() for row in rows], [replica.text(), others_took]))
    lost = [answer for row in rows for answer in row.answers if answer.outcome in NO_ANSWER]
    if lost:
        sys.exit(f"error: no answer came to {in_words(outcomes(lost))}")


@dataclass(frozen=True)
class Replica:
    """What one replica does: the seconds of a picture when there is no other (mean, and squared coefficient
    of variation), and pictures a second when there are always more."""

    alone: float
    variability: float
    most: float

    def text(self) -> str:
        """Write it for people."""
        return (
            f"One replica: a picture alone takes {milliseconds(self.alone)} ms (squared coefficient of "
            f"variation {self.variability:.3f}), at most {self.most:.2f} pictures/s."
        )

    def queue(self, rate: float, servers: int) -> Queue:
        """Return the model of so many of them."""
        return Queue(rate, servers, 1 / self.most, self.variability)


def measured_replica(port: int, messages: Sequence[bytes], seconds: float) -> Replica:
    """Measure one replica, with one client and with eight."""
    alone = [answer.seconds for answer in closed(port, messages, 1, seconds)[0]]
    busy, took = closed(port, messages, 8, seconds)
    mean = statistics.mean(alone)
    return Replica(mean, statistics.pvariance(alone) / mean**2, len(busy) / took)


def closed(port: int, messages: Sequence[bytes], clients: int, seconds: float) -> tuple[list[Answer], float]:
    """Return the answers to clients that each wait for theirs, and the seconds that all took.

    Raises SystemExit where a picture was not answered.
    """
    start = time.monotonic()
    answers = asyncio.run(
        closed_loop(
            port, itertools.cycle(messages), clients, go_on=lambda: time.monotonic() - start < seconds
        )
    )
    if any(answer.outcome != "200" for answer in answers):
        raise SystemExit(f"error: not every picture was answered: {in_words(outcomes(answers))}")
    return answers, time.monotonic() - start


def warm_up(port: int, messages: Sequence[bytes]) -> None:
    """Ask a replica some things, so that it knows its own speed and nothing is done for the first time."""
    asyncio.run(closed_loop(port, messages[:8], 2))


@dataclass(frozen=True)
class Row:
    """What became of the requests at one rate, and what the model says."""

    COLUMNS = (
        Column("replicas"),
        Column("", "arrivals/s", ".1f"),
        Column("", "answered/s", ".1f"),
        Column("refused"),
        Column("requests"),
        Column("busy by the model", "%", ".0f"),
        Column("p50", "ms", ".1f"),
        Column("by the model", "ms", ".1f"),
        Column("p99", "ms", ".1f"),
        Column("by the model", "ms", ".1f"),
        Column("mean", "ms", ".1f"),
        Column("by the model", "ms", ".1f"),
    )

    servers: int
    rate: float
    answers: list[Answer]
    replica: Replica

    @classmethod
    def at(
        cls,
        replica: Replica,
        load: float,
        servers: int,
        port: int,
        messages: Sequence[bytes],
        seconds: float,
        seed: int,
    ) -> "Row":
        """Send pictures at ``load`` times the most of one replica."""
        rate = load * replica.most
        sent = itertools.cycle(messages)
        went = asyncio.run(open_loop(port, sent, rate, seconds, patience=DEADLINE + GRACE, seed=seed))
        return cls(servers, rate, went.answers, replica)

    def cells(self) -> list[Cell]:
        """Return a row; what the model says of overload is that nothing is ever done: infinity."""
        good = [answer.seconds for answer in self.answers if answer.outcome == "200"]
        refused = sum(answer.outcome == "429" for answer in self.answers)
        ends = [answer.started + answer.seconds for answer in self.answers]
        took = max(ends) - min(answer.started for answer in self.answers)
        queue = self.replica.queue(self.rate, self.servers)
        alone = self.replica.alone
        return [
            self.servers,
            self.rate,
            len(good) / took,
            refused,
            len(self.answers),
            100 * min(1.0, queue.utilisation),
            1e3 * percentile(good, 50),
            1e3 * (alone + queue.wait(50)),
            1e3 * percentile(good, 99),
            1e3 * (alone + queue.wait(99)),
            1e3 * statistics.mean(good) if good else None,
            1e3 * (alone + queue.mean_wait),
        ]


if __name__ == "__main__":
    run_script(main)
