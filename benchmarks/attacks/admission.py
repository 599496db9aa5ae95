"""Requests that hold places or mislead the measured rate: others must be served as if there were none."""

import asyncio
import time
from collections.abc import Mapping

from loadtest.client import Answer, Client, form, request
from loadtest.figures import in_words, outcomes
from loadtest.processes import Server, service
from loadtest.trial import Trial

from attacks.bystander import ATTACKER, IMAGE, SMALL_REQUEST, judge, small_requests, while_attacked

LONG = {"X-Timeout-Ms": "300000"}
GARBAGE = request("/detect", b"\xff\xd8\xff garbage")
TINY_GARBAGE = request("/classify", b"\xff\xd8\xff garbage")


def heads(settings: Mapping[str, object], *, count: int = 100, seconds: float = 20) -> Trial:
    """Open connections that send only the head of a request, and one that announces 512 MiB."""
    trial = Trial(f"{count} heads of requests whose bodies never come")
    small = b"POST /detect?profile=paper HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n%s\r\n"
    fields = b"X-Timeout-Ms: 300000\r\nContent-Length: %d\r\n"
    messages = [small % (fields % 100)] * count
    messages.append(small.replace(b"image/jpeg", b"multipart/form-data; boundary=x") % (fields % 536_800_000))

    async def attack(server: Server) -> None:
        writers = [await send(server.port, message) for message in messages]
        await while_attacked(trial, server.port, seconds)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.5)
        judge(trial, "after they left", await small_requests(server.port, 2))

    with service(settings) as server:
        asyncio.run(attack(server))
    return trial


def monopoly(settings: Mapping[str, object], *, seconds: float = 40) -> Trial:
    """Send one client's huge request, alone on the service when it comes."""
    trial = Trial("one request of 16 pictures with all their boxes, from an idle service")
    files = {f"{number}.jpg": IMAGE for number in range(16)}
    huge = request("/detect?profile=paper", *form(files), headers=LONG)

    async def attack(server: Server) -> None:
        async def send_huge() -> Answer:
            async with Client(server.port, patience=400, address=ATTACKER) as client:
                return await client.ask(huge)

        sending = asyncio.create_task(send_huge())
        await asyncio.sleep(2)
        await while_attacked(trial, server.port, seconds)
        trial.figures["the huge one, after that"] = (
            in_words(outcomes([sending.result()])) if sending.done() else "still computed"
        )
        sending.cancel()

    settings = {name: value for name, value in settings.items() if name != "max_proposals"}
    with service(settings) as server:
        asyncio.run(attack(server))
    return trial


def slow_clients(settings: Mapping[str, object], *, seconds: float = 20) -> Trial:
    """Send bodies that come slowly while the device idles: the rate that is measured must not suffer."""
    trial = Trial("slow bodies and unreadable pictures while the device idles")
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n"

    async def attack(server: Server) -> None:
        writers = [await send(server.port, head + b"X-Timeout-Ms: 120000\r\n\r\n") for _ in range(3)]
        end = time.monotonic() + seconds
        async with Client(server.port, address=ATTACKER) as client:
            while time.monotonic() < end:
                await client.ask(TINY_GARBAGE)
                await asyncio.sleep(2.1)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(1)
        answers = [answer for _ in range(3) for answer in await at_once(server.port, 3)]
        judge(trial, "afterwards, three at once", answers)

    with service(settings) as server:
        asyncio.run(attack(server))
    return trial


def garbage(settings: Mapping[str, object], *, seconds: float = 30, clients: int = 40) -> Trial:
    """Load beyond capacity, without and with one client that sends unreadable pictures in a loop."""
    trial = Trial(f"{clients} clients at once, and one of unreadable pictures")
    message = request("/detect?profile=fast", IMAGE, headers={"X-Timeout-Ms": "8000"})

    async def load(server: Server, *, attacked: bool) -> list[Answer]:
        end = time.monotonic() + seconds

        async def user() -> list[Answer]:
            answers = []
            async with Client(server.port, patience=60) as client:
                while time.monotonic() < end:
                    answers.append(await client.ask(message))
                    if answers[-1].outcome == "429":
                        await asyncio.sleep(1)
            return answers

        async def attacker() -> None:
            async with Client(server.port, address=ATTACKER) as client:
                while attacked and time.monotonic() < end:
                    await client.ask(GARBAGE)

        *answers, _ = await asyncio.gather(*(user() for _ in range(clients)), attacker())
        return [answer for some in answers for answer in some]

    with service(settings) as server:
        shares = {}
        for attacked, what in ((False, "clean"), (True, "with it")):
            answers = asyncio.run(load(server, attacked=attacked))
            counts = outcomes(answers)
            trial.figures[what] = in_words(counts)
            served, expired = counts["200"], counts["504 deadline_exceeded"]
            shares[what] = expired / max(1, served + expired)
    trial.check(
        shares["with it"] <= shares["clean"] + 0.1,
        f"of what was admitted {shares['with it']:.0%} expired, without the attacker {shares['clean']:.0%}",
    )
    return trial


async def send(port: int, message: bytes) -> asyncio.StreamWriter:
    """Open a connection from the attacker's address, send some bytes and leave it open."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER, 0))
    writer.write(message)
    return writer


async def at_once(port: int, count: int) -> list[Answer]:
    """Send so many small requests at the same moment."""

    async def one() -> Answer:
        async with Client(port, patience=120) as client:
            return await client.ask(SMALL_REQUEST)

    return list(await asyncio.gather(*(one() for _ in range(count))))
