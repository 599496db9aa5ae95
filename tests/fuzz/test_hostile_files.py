"""A spread of the hostile corpus against the real service: right answers, and healthy afterwards.

`benchmarks/hostile.py` sends all of it, with memory and time watched.
"""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from hostile_corpus.bombs import endless_scans
from hostile_corpus.corpus import corpus, spread
from hostile_corpus.mutations import mutations
from hostile_corpus.requests import HostileRequest, requests
from hostile_corpus.verdict import file_problem, request_problem
from loadtest.client import Answer, Client, request

from detector.io.decoding import decode

pytestmark = pytest.mark.exhaustive

MOST_BYTES = 300_000  # of the service that `client` is served by
FILES = 150


def answers(client: httpx.Client, messages: list[bytes], patience: float) -> list[Answer]:
    """Each over a connection of its own."""
    assert client.base_url.port is not None
    port = client.base_url.port

    async def ask() -> list[Answer]:
        found = []
        for message in messages:
            async with Client(port, patience) as one:
                found.append(await one.ask(message))
        return found

    return asyncio.run(ask())


def problems(sent: list, came: list[Answer], judge: Callable[..., str | None]) -> dict[str, str]:
    judged = {one.name: judge(one, answer) for one, answer in zip(sent, came, strict=True)}
    return {name: problem for name, problem in judged.items() if problem}


def test_hostile_files(client: httpx.Client, image: bytes) -> None:
    sent = [file for file in spread(FILES) if len(file.data) <= MOST_BYTES]
    assert len(sent) > FILES * 0.9
    came = answers(client, [request("/classify", file.data, file.content_type) for file in sent], 600)
    assert problems(sent, came, file_problem) == {}
    good = client.post("/classify", content=image, headers={"Content-Type": "image/png"})
    assert good.status_code == 200


def quick(one: HostileRequest) -> bool:
    """Neither long to send, nor one whose rest the service would wait for."""
    return len(one.message) < MOST_BYTES and "2^64" not in one.name


def test_hostile_requests(client: httpx.Client) -> None:
    sent = [one for one in requests() if quick(one)]
    came = answers(client, [one.message for one in sent], 600)
    assert problems(sent, came, request_problem) == {}
    assert client.get("/health/ready").status_code == 200


def test_the_corpus_is_as_large_as_promised() -> None:
    files = list(corpus(2500))
    assert len({file.name for file in files}) == 2500
    assert len({file.data for file in files}) > 2300


@pytest.mark.parametrize(
    ("seed", "same"), [pytest.param(0, True, id="the same seed"), pytest.param(1, False, id="another")]
)
def test_the_seed_decides(seed: int, same: bool) -> None:
    assert (list(mutations(300, seed)) == list(mutations(300))) is same


def test_the_bomb_of_scans_is_a_picture() -> None:
    """Else it would test nothing."""
    assert decode(endless_scans(80, 60, 3)).shape == (60, 80, 3)
