"""Closed loops, where each client waits for its answer, and open ones, where requests come regardless."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from loadtest.client import Answer, Client


async def closed_loop(
    port: int,
    requests: Iterable[bytes],
    clients: int,
    *,
    patience: float = 600,
    go_on: Callable[[], bool] = lambda: True,
) -> list[Answer]:
    """Have so many clients take the requests in their order, each the next one once its last is answered;
    until there are no more, or ``go_on`` says no. A client that was refused waits a moment, as a real one
    would.
    """
    left = iter(requests)
    answers: list[Answer] = []

    async def client() -> None:
        async with Client(port, patience) as one:
            for message in left:
                if not go_on():
                    return
                answers.append(await one.ask(message))
                if not answers[-1].outcome.startswith("2"):
                    await asyncio.sleep(0.05)

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


@dataclass(frozen=True)
class OpenLoop:
    """The answers, and by how many seconds each request left later than planned."""

    answers: list[Answer]
    lateness: list[float]


async def open_loop(
    port: int, requests: Iterator[bytes], rate: float, seconds: float, *, patience: float, seed: int = 0
) -> OpenLoop:
    """Send requests at ``rate`` a second, at random moments (a Poisson process), each of a user of its own
    with a new connection: however long answers take, the next request comes when it comes.
    """
    pause = random.Random(seed)
    lateness: list[float] = []

    async def one(message: bytes) -> Answer:
        async with Client(port, patience) as client:
            return await client.ask(message)

    start = time.monotonic()
    due = pause.expovariate(rate)
    async with asyncio.TaskGroup() as group:
        tasks = []
        while due < seconds:
            await asyncio.sleep(max(0.0, start + due - time.monotonic()))
            lateness.append(time.monotonic() - start - due)
            tasks.append(group.create_task(one(next(requests))))
            due += pause.expovariate(rate)
    return OpenLoop([task.result() for task in tasks], lateness)
