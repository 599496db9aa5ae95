"""Pictures whose drawing costs more than their bytes let expect."""

import asyncio
import io
import time
from collections.abc import Mapping

from loadtest.client import Answer, Client, request
from loadtest.figures import in_words, outcomes
from loadtest.processes import Server, service
from loadtest.trial import Trial
from PIL import Image

from attacks.bystander import ATTACKER, while_attacked

SHAPES = ((1, 65535), (65535, 1), (2, 32000), (7000, 7000))
"""Width and height; each is a file of some hundred bytes to some kilobytes."""
DEADLINE = 5.0
QUIET = 3.0
"""Seconds after the last answer in which the worker must have stopped."""


def drawing(settings: Mapping[str, object], *, copies: int = 2, seconds: float = 30) -> Trial:
    """Ask for each shape with all its boxes drawn, several at once, within five seconds each."""
    trial = Trial("drawn pictures of extreme shapes")
    path = "/detect?format=image&score_threshold=0&max_detections=1000"
    fields = {"X-Timeout-Ms": f"{DEADLINE * 1e3:.0f}"}
    messages = [request(path, blank(*shape), "image/png", headers=fields) for shape in SHAPES] * copies

    async def attack(server: Server) -> None:
        answers: list[Answer] = []

        async def bomb(message: bytes) -> None:
            async with Client(server.port, patience=120, address=ATTACKER) as client:
                answers.append(await client.ask(message))

        bombs = asyncio.gather(*(bomb(message) for message in messages))
        await while_attacked(trial, server.port, seconds)
        await bombs
        trial.figures["the drawn ones"] = in_words(outcomes(answers))
        late = [answer.seconds for answer in answers if answer.seconds > DEADLINE + 2]
        trial.check(not late, f"{len(late)} were answered later than two seconds after their deadline")
        await asyncio.sleep(QUIET)
        busy = worker_seconds(server)
        await asyncio.sleep(5)
        busy = worker_seconds(server) - busy
        trial.figures["the worker's time in 5 s afterwards"] = f"{busy:.2f} s"
        trial.check(busy < 0.5, "the worker goes on with what was answered")

    with service(settings) as server:
        started = time.monotonic()
        asyncio.run(attack(server))
        trial.figures["in all"] = f"{time.monotonic() - started:.0f} s"
    return trial


def blank(width: int, height: int) -> bytes:
    """Return a PNG of one colour."""
    data = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 40)).save(data, "PNG")
    return data.getvalue()


def worker_seconds(server: Server) -> float:
    """Return the processor time that the workers have had by now."""
    return sum(sum(worker.cpu_times()[:2]) for worker in server.workers())
