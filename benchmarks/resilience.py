"""What becomes of requests when clients vanish, the worker is killed, or the service is told to end.

    python benchmarks/resilience.py --profile fast --max-proposals 20

Three trials, each with a service of its own:

vanish   200 clients connect, send a request and are gone: half of them in the middle of sending, half at
         once after it. Then the service must answer a picture without doing their work first: its count of
         computed regions may grow by a quarter of theirs at most, and nothing of theirs stays pending.
kill     under load, the process that owns the device gets SIGKILL. Every request is answered, those in
         flight with 503, and the service is ready again without help.
sigterm  under load, the service gets SIGTERM. What it has accepted it answers, new requests are told so or
         find no listener, it ends by itself with status 0.

Prints how every request ended; status 1 if one got no answer (a refused connection after SIGTERM is one), or
anything else was not as above.
"""

import asyncio
import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
from loadtest.client import NO_ANSWER, REFUSED, Answer, form, request
from loadtest.figures import in_short, in_words, milliseconds, outcomes, read_images
from loadtest.loops import closed_loop
from loadtest.metrics import metric, regions, requests_by_status, until_idle
from loadtest.processes import ROOT, Server, service
from loadtest.trial import Trial
from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions

TRIALS = ("vanish", "kill", "sigterm")
BENCHMARK = Benchmark(
    "resilience",
    "Clients that vanish, a worker that is killed, an end under load",
    "What becomes of requests when clients vanish, the worker is killed, or the service is told to end; each "
    "trial has a service of its own.",
)


def main(
    data: Annotated[Path, arg(help="A folder with JPEG files.")] = ROOT / "examples",
    trial: Annotated[
        Sequence[str], UseAppendAction, arg(help=f"One of {', '.join(TRIALS)}; all if none.")
    ] = (),
    clients: Annotated[int, at_least(2), arg(help="That vanish.")] = 200,
    load: Annotated[int, at_least(1), arg(help="Clients at once in the other trials.")] = 8,
    seconds: Annotated[float, at_least(1, float), arg(help="Of load before the blow.")] = 8.0,
    patience: Annotated[float, arg(help="Seconds after which an answer is never coming.")] = 120.0,
    profile: str = "fast",
    max_proposals: int | None = None,
    device: str = "auto",
    weights: Path | None = None,
    seed: int = 0,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a table for each trial; status 1 if anything was wrong."""
    if unknown := set(trial or ()) - set(TRIALS):
        raise SystemExit(f"error: unknown trial {unknown.pop()!r}: use {', '.join(TRIALS)}")
    settings = {"profile": profile, "max_proposals": max_proposals, "device": device, "weights": weights}
    images = read_images(data, 24)
    headers = {"X-Timeout-Ms": "300000"}  # what vanishes shall not have been refused for want of time
    messages = [request("/detect", *form({name: body}), headers=headers) for name, body in images.items()]
    used = saving.data(data, len(images))
    failed = False
    with saving.recording(BENCHMARK, used, in_short(settings), folder=data, device=device) as run:
        for name in trial or TRIALS:
            with service(settings) as server:
                asyncio.run(closed_loop(server.port, messages[:3], 1))
                if name == "vanish":
                    done = vanish(server, messages, clients, random.Random(seed))
                elif name == "kill":
                    done = asyncio.run(kill(server, messages, load, seconds, patience))
                else:
                    done = asyncio.run(sigterm(server, messages, load, seconds, patience))
            run.show(done.table())
            failed |= bool(done.wrong)
    sys.exit(1 if failed else 0)


# Clients that vanish


def vanish(server: Server, messages: list[bytes], clients: int, draw: random.Random) -> Trial:
    """Have clients vanish: is their work done all the same?"""
    trial = Trial(f"{clients} clients vanish")
    before = regions(server)
    (alone,) = asyncio.run(closed_loop(server.port, messages[:1], 1))
    per_image = regions(server) - before
    trial.check(per_image > 0, "the service's count of regions does not move")
    before, counted = regions(server), requests_by_status(server)
    asyncio.run(come_and_go(server.port, messages, clients, draw))
    gone = time.monotonic()
    (answer,) = asyncio.run(closed_loop(server.port, messages[:1], 1, patience=300))
    trial.figures["a picture alone"] = f"{alone.outcome} in {milliseconds(alone.seconds)} ms"
    trial.figures["a picture after them"] = f"{answer.outcome} in {milliseconds(answer.seconds)} ms"
    trial.check(answer.outcome == "200", f"the picture after them was answered with {answer.outcome}")
    most = 3 * alone.seconds + 1
    trial.check(answer.seconds < most, f"the picture after them took longer than {most:.1f} s")
    left = until_idle(server, 30)
    trial.figures["nothing pending"] = f"{time.monotonic() - gone:.1f} s after they left"
    trial.check(not any(left.values()), f"still pending after 30 s: {left}")
    computed = regions(server) - before - per_image
    theirs = per_image * (clients // 2)
    trial.figures["regions computed for them"] = f"{computed:.0f} of the {theirs:.0f} of whole requests"
    trial.check(computed <= 0.25 * theirs, "more than a quarter of their work was done")
    trial.figures["as the service counted"] = in_words(requests_by_status(server) - counted)
    trial.figures["noticed as gone"] = f"{metric(server, 'detector_abandoned_total'):.0f}"
    return trial


async def come_and_go(port: int, messages: list[bytes], clients: int, draw: random.Random) -> None:
    """Ask all at once; even ones are gone somewhere in the middle of their request, odd ones right after
    it."""

    async def one(number: int) -> None:
        message = messages[number % len(messages)]
        part = len(message) if number % 2 else draw.randrange(1, len(message))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(message[:part])
        try:
            await writer.drain()
            await asyncio.sleep(draw.uniform(0, 0.2))
        except ConnectionError:
            pass  # refused already, and the connection closed
        writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(clients)))


# A worker that is killed


async def kill(server: Server, messages: list[bytes], load: int, seconds: float, patience: float) -> Trial:
    """Send SIGKILL to the process that owns the device."""
    trial = Trial("the worker gets SIGKILL under load")
    workers = server.workers()
    if not workers:
        trial.check(False, "the service has no worker process to kill")
        return trial
    end = time.monotonic() + 600
    back: list[float] = []
    blow = 0.0

    def go_on() -> bool:
        return time.monotonic() < end

    async def strike() -> None:
        nonlocal blow, end
        await asyncio.sleep(seconds)
        workers[0].kill()
        blow = time.monotonic()
        back.append(await until_ready(server, blow))
        end = time.monotonic() + seconds  # and as long again, to see that all is well

    striking = asyncio.create_task(strike())
    answers = await closed_loop(server.port, itertools.cycle(messages), load, patience=patience, go_on=go_on)
    await striking
    trial.figures |= phases(answers, blow, blow + back[0])
    trial.figures["ready again"] = f"{back[0]:.1f} s after the kill"
    trial.check(back[0] < 300, "not ready again in 300 s")
    lost = [one for one in answers if one.outcome in NO_ANSWER]
    trial.figures["without an answer"] = str(len(lost))
    trial.check(not lost, f"without an answer: {in_words(outcomes(lost))}")
    strange = [one for one in answers if one.outcome not in ("200", "429", "503", *NO_ANSWER)]
    trial.check(not strange, f"answers that have no place here: {in_words(outcomes(strange))}")
    late = [one for one in answers if one.started > blow + back[0] + 0.5 and one.outcome != "200"]
    trial.check(not late, f"once it was ready again: {in_words(outcomes(late))}")
    trial.check(len(server.workers()) == len(workers), f"{len(server.workers())} workers afterwards")
    return trial


async def until_ready(server: Server, since: float) -> float:
    """Wait, and return the seconds from ``since`` until /health/ready says no and then yes; 300 if that does
    not come."""
    url = f"http://127.0.0.1:{server.port}/health/ready"
    was_not = False
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        while time.monotonic() < since + 300:
            try:
                ready = (await client.get(url)).status_code == 200
            except httpx.TransportError:
                ready = False
            if ready and (was_not or time.monotonic() > since + 60):
                return time.monotonic() - since
            was_not |= not ready
            await asyncio.sleep(0.02)
    return 300.0


# A service that is told to end


async def sigterm(server: Server, messages: list[bytes], load: int, seconds: float, patience: float) -> Trial:
    """Send SIGTERM to the service."""
    trial = Trial("the service gets SIGTERM under load")
    blow, ended = 0.0, 0.0
    family = server.workers()

    async def strike() -> None:
        nonlocal blow, ended
        await asyncio.sleep(seconds)
        server.process.send_signal(signal.SIGTERM)
        blow = time.monotonic()
        try:
            await asyncio.to_thread(server.process.wait, patience)
        except subprocess.TimeoutExpired:
            trial.check(False, f"it did not end in {patience:g} s")
        ended = time.monotonic()

    striking = asyncio.create_task(strike())
    answers = await closed_loop(
        server.port, itertools.cycle(messages), load, patience=patience, go_on=lambda: not ended
    )
    await striking
    trial.figures |= phases(answers, blow, ended)
    trial.figures["ended"] = f"{ended - blow:.1f} s after SIGTERM, status {server.process.poll()}"
    trial.check(server.process.poll() == 0, f"it ended with status {server.process.poll()}")
    trial.check(not any(one.is_running() for one in family), "its worker outlived it")
    lost = [
        one
        for one in answers
        if one.outcome in NO_ANSWER and not (one.outcome == REFUSED and one.started > blow)
    ]
    trial.figures["without an answer"] = str(len(lost))
    trial.check(not lost, f"without an answer: {in_words(outcomes(lost))}")
    strange = [one for one in answers if one.outcome not in ("200", "429", "503", *NO_ANSWER)]
    trial.check(not strange, f"answers that have no place here: {in_words(outcomes(strange))}")
    return trial


def phases(answers: list[Answer], blow: float, end: float) -> dict[str, str]:
    """Return how requests ended: those that were over before the blow, in flight at it, sent after it, or
    later."""
    names: dict[str, Any] = {
        "answered before": lambda one: one.started + one.seconds < blow,
        "in flight at the blow": lambda one: one.started <= blow <= one.started + one.seconds,
        "sent after it": lambda one: blow < one.started <= end,
        "sent once it was over": lambda one: one.started > end,
    }
    return {name: in_words(outcomes(one for one in answers if test(one))) for name, test in names.items()}


if __name__ == "__main__":
    run_script(main)
