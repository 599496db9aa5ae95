"""Every spelling of a path, without a key."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from loadtest.client import request
from loadtest.figures import in_words
from loadtest.processes import service
from loadtest.trial import Trial

from attacks.bystander import IMAGE

KEYED = ("/detect", "/classify", "/models", "/models/default")


def keys(settings: Mapping[str, object]) -> Trial:
    """Ask without a key in many spellings: nothing but refusals may come back."""
    trial = Trial("a path in every spelling, without a key")
    with service({**settings, "api_keys": "secret"}) as server:
        messages = [
            request(path, IMAGE if method == "POST" else b"", method=method)
            for keyed in KEYED
            for path in spellings(keyed)
            for method in ("GET", "POST", "HEAD", "PUT", "OPTIONS")
        ]

        statuses = asyncio.run(all_statuses(server.port, messages))
    trial.figures[f"{len(messages)} requests"] = in_words(Counter(statuses))
    for message, status in zip(messages, statuses, strict=True):
        line = message.split(b"\r\n")[0].decode("latin-1")
        trial.check(not status.startswith(("2", "5")), f"{line!r} was answered {status}")
    return trial


async def all_statuses(port: int, messages: Sequence[bytes]) -> list[str]:
    """Send each over a connection of its own; return what the status lines say, "closed" where none came."""
    places = asyncio.Semaphore(16)

    async def ask(message: bytes) -> str:
        async with places:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(message)
            try:
                async with asyncio.timeout(30):
                    line = await reader.readline()
            except (TimeoutError, OSError) as error:
                return type(error).__name__
            finally:
                writer.transport.abort()
        return line.split()[1].decode() if line else "closed"

    return list(await asyncio.gather(*(ask(message) for message in messages)))


def spellings(path: str) -> Iterator[str]:
    """Yield a path in the ways in which proxies, routers and comparisons have been known to differ."""
    first, rest = path[1], path[2:]
    yield path
    for end in (
        "%0a",
        "%0A",
        "%0d",
        "%0d%0a",
        "%00",
        "%20",
        "%09",
        "/",
        "//",
        "/.",
        "/..;/",
        ";a=b",
        "?",
        "#",
        "%3f",
        "%23",
    ):
        yield path + end
    for end in (
        "?format=json",
        "%0a?format=json",
        ".json",
        "/%2e",
        "%2f",
        "\\",
        "%5c",
        "&",
        "..%2f",
        "%ff",
        "%c0%af",
    ):
        yield path + end
    for start in ("/", "/.", "/./", "/x/..", "/%2e", "/%2e%2e", "/docs/..", "/health/live/..", "/health/..;"):
        yield start + path
    yield "/" + f"%{ord(first):02x}" + rest
    yield "/" + f"%25{ord(first):02x}" + rest
    yield path.upper()
    yield path.title()
    yield "http://127.0.0.1" + path
    yield path[1:]
    yield path[:4] + "%0a" + path[4:]
