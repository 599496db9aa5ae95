"""A client that does nothing wrong while others attack: its requests tell what an attack costs."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress

from loadtest.client import Answer, Client, request
from loadtest.figures import in_words, milliseconds, outcomes, percentile
from loadtest.processes import ROOT
from loadtest.trial import Trial

IMAGE = (ROOT / "examples" / "cat.jpg").read_bytes()
SMALL_REQUEST = request("/detect?profile=fast", IMAGE)
ADDRESS = "127.0.0.3"
"""Where it comes from; attackers come from elsewhere."""
ATTACKER = "127.0.0.2"
PAUSE = 0.5
MOST_SECONDS = 15.0
"""An answer that takes longer than this counts as held up: half of what a request has by default."""


async def small_requests(port: int, seconds: float, *, address: str = ADDRESS) -> list[Answer]:
    """Send small requests, one after the other with pauses, for so many seconds."""
    end = time.monotonic() + seconds
    answers = []
    async with Client(port, patience=120, address=address) as client:
        while time.monotonic() < end:
            answers.append(await client.ask(SMALL_REQUEST))
            await asyncio.sleep(PAUSE)
    return answers


def judge(trial: Trial, what: str, answers: list[Answer]) -> None:
    """Note how the bystander fared, and that it should have been served without being held up."""
    seconds = [answer.seconds for answer in answers]
    trial.figures[what] = (
        f"{in_words(outcomes(answers))}; p50 {milliseconds(percentile(seconds, 50))} ms, "
        f"slowest {milliseconds(max(seconds))} ms"
    )
    refused = [answer for answer in answers if answer.outcome != "200"]
    trial.check(not refused, f"{what}: {len(refused)} of {len(answers)} were not served")
    trial.check(max(seconds) < MOST_SECONDS, f"{what}: one took {max(seconds):.1f} s")


async def while_attacked(
    trial: Trial,
    port: int,
    seconds: float,
    attack: Awaitable[object] | None = None,
    *,
    address: str = ADDRESS,
) -> None:
    """Let the bystander work while ``attack`` runs (or stands already), and after it has been stopped."""
    attacking = None if attack is None else asyncio.ensure_future(attack)
    judge(trial, "a bystander meanwhile", await small_requests(port, seconds, address=address))
    if attacking is not None:
        attacking.cancel()
        with suppress(asyncio.CancelledError):
            await attacking
