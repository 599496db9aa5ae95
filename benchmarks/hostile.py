"""A pass of hostile files and requests against a real service, twice: it must answer rightly and stay whole.

    python benchmarks/hostile.py --files 2500

Every file goes to /detect or /classify in turn. Right is: no 5xx at all, each error in the one shape with the
status and code that fit the file, no answer later than ``--most-seconds``, the same detections of a good
picture before and after, and memory (all processes of the service, a moment after each pass) that does not
grow from the first pass to the second by more than a twentieth and 30 MiB. Prints what was not, and counts;
status 1 if anything was wrong. ``--save`` keeps the files that showed a fault.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from hostile_corpus.corpus import SIZE, corpus
from hostile_corpus.hostile_file import HostileFile
from hostile_corpus.requests import HostileRequest, requests
from hostile_corpus.verdict import file_problem, request_problem
from loadtest.client import Answer, Client, request
from loadtest.figures import in_words, machine, milliseconds, outcomes, percentile
from loadtest.processes import ROOT, MemoryWatch, Server, service
from tyro.conf import arg

from detector.cli.command_line import at_least, run_script

T = TypeVar("T")
PATIENCE = 120.0
SETTLE = 3.0
"""Seconds after a pass before memory is read."""


def main(
    files: Annotated[int, at_least(1), arg(help="How many files.")] = SIZE,
    seed: int = 0,
    passes: Annotated[int, at_least(2)] = 2,
    clients: Annotated[int, at_least(1)] = 8,
    most_seconds: Annotated[float, arg(help="No answer may take longer.")] = 20.0,
    max_proposals: Annotated[int, arg(help="Regions of each picture.")] = 1,
    device: str = "auto",
    weights: Path | None = None,
    keep: Annotated[Path | None, arg(help="A folder for the files that showed a fault.")] = None,
) -> None:
    """Print what went wrong and how often which answer came."""
    settings = {"device": device, "weights": weights, "profile": "fast", "max_proposals": max_proposals}
    good = request("/detect?score_threshold=0", (ROOT / "examples" / "cat.jpg").read_bytes())
    sent = list(corpus(files, seed))
    asked = list(requests())
    print(f"{machine()}, device {device}: {len(sent)} files, {len(asked)} requests, {passes} passes")
    problems: dict[str, str] = {}
    sizes = []
    with service(settings) as server:
        before = said(server, good)
        print(f"before: {server.memory() / 2**20:.0f} MiB", flush=True)
        for number in range(passes):
            problems |= one_pass(server, sent, asked, clients, most_seconds)
            time.sleep(SETTLE)
            sizes.append(server.memory() / 2**20)
            print(f"pass {number + 1}: {sizes[-1]:.0f} MiB afterwards", flush=True)
        if (after := said(server, good)) != before:
            problems["a good picture afterwards"] = f"{after[:200]} where it was {before[:200]}"
        if server.process.poll() is not None:
            problems["the service"] = f"ended with {server.process.returncode}"
    if sizes[-1] > sizes[0] * 1.05 + 30:
        problems["memory"] = f"{sizes[0]:.0f} MiB after the first pass, {sizes[-1]:.0f} MiB after the last"
    for name, problem in problems.items():
        print(f"WRONG  {name}: {problem}")
    if keep:
        keep_files(keep, [file for file in sent if file.name in problems])
    print(f"{len(problems)} things are wrong")
    sys.exit(1 if problems else 0)


def one_pass(
    server: Server,
    files: Sequence[HostileFile],
    asked: Sequence[HostileRequest],
    clients: int,
    most_seconds: float,
) -> dict[str, str]:
    """Send all files and requests once; return what was wrong, by name."""
    start, problems = time.monotonic(), {}
    paths = ("/detect", "/classify")
    messages = [request(paths[at % 2], file.data, file.content_type) for at, file in enumerate(files)]
    with MemoryWatch(server) as watch:
        answers = asyncio.run(all_answers(server.port, messages, clients))
        others = asyncio.run(all_answers(server.port, [one.message for one in asked], 1, anew=True))
    for file, answer in zip(files, answers, strict=True):
        if problem := file_problem(file, answer):
            problems[file.name] = problem
        elif answer.seconds > most_seconds:
            problems[file.name] = f"{answer.outcome} after {answer.seconds:.1f} s"
    for one, answer in zip(asked, others, strict=True):
        if problem := request_problem(one, answer):
            problems[one.name] = problem
    slowest = max(zip(answers, files, strict=True), key=lambda pair: pair[0].seconds)
    p50, p99 = (milliseconds(percentile([one.seconds for one in answers], percent)) for percent in (50, 99))
    print(
        f"{time.monotonic() - start:.0f} s; files: {in_words(outcomes(answers))}; p50 {p50}, p99 {p99} ms, "
        f"slowest {slowest[0].seconds:.1f} s ({slowest[1].name}); requests: {in_words(statuses(others))}; "
        f"most memory {max((size for _, size in watch.samples), default=0) / 2**20:.0f} MiB"
    )
    return problems


async def all_answers(
    port: int, messages: Sequence[bytes], clients: int, *, anew: bool = False
) -> list[Answer]:
    """Return the answers in the order of the messages; ``anew``: each over a connection of its own."""
    answers: dict[int, Answer] = {}
    left = iter(range(len(messages)))

    async def client() -> None:
        async with Client(port, PATIENCE) as one:
            for number in left:
                answers[number] = await one.ask(messages[number])
                if anew:
                    one.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return [answers[number] for number in range(len(messages))]


def statuses(answers: Sequence[Answer]) -> Counter[str]:
    """Count by status alone."""
    return Counter(one.outcome for one in answers)


def said(server: Server, message: bytes) -> str:
    """Return what the service finds in a good picture, to compare."""
    (answer,) = asyncio.run(all_answers(server.port, [message], 1))
    try:
        return json.dumps(json.loads(answer.body)["detections"])
    except (ValueError, KeyError):
        return f"{answer.outcome} {answer.body[:200]!r}"


def keep_files(folder: Path, files: Sequence[HostileFile]) -> None:
    """Write the files under names that say what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        name = "".join(letter if letter.isalnum() else "_" for letter in file.name)
        (folder / name[:120]).write_bytes(file.data)


if __name__ == "__main__":
    run_script(main)
