"""What is wrong with an answer to a hostile file or request."""

import json

from loadtest.client import CLOSED as NOTHING
from loadtest.client import CUT, RESET, Answer

from hostile_corpus.hostile_file import FINE, HostileFile
from hostile_corpus.requests import CLOSED, HostileRequest

STATUS = {
    FINE: "200",
    "empty": "400",
    "too_many_bytes": "413",
    "too_many_pixels": "413",
    "unsupported_format": "415",
    "truncated": "422",
    "unreadable": "422",
}
"""The status that belongs to each code of a file."""
LONGEST_MESSAGE = 600


def file_problem(file: HostileFile, answer: Answer) -> str | None:
    """Say what is wrong; None if the answer is right for the file."""
    if answer.outcome == "200":
        return None if FINE in file.codes else f"answered 200, not {' or '.join(sorted(file.codes))}"
    if shape := shape_problem(answer):
        return shape
    if answer.code not in file.codes:
        return f"{answer.outcome} {answer.code}, not {' or '.join(sorted(file.codes))}"
    if STATUS[answer.code] != answer.outcome:
        return f"{answer.code} with status {answer.outcome}"
    return None


def request_problem(sent: HostileRequest, answer: Answer) -> str | None:
    """Say what is wrong; None if the answer is right for the request."""
    if answer.outcome in (NOTHING, RESET, CUT):
        return None if CLOSED in sent.outcomes else f"no answer: {answer.outcome}"
    if answer.outcome not in sent.outcomes:
        return f"{answer.outcome} {answer.code}, not {' or '.join(sorted(sent.outcomes))}"
    if sent.is_http and answer.outcome != "200":
        return shape_problem(answer)
    return None


def shape_problem(answer: Answer) -> str | None:
    """Say what is wrong; None if this is an error in the one shape, with a message for people."""
    try:
        reply = json.loads(answer.body)
        detail = reply["error"]
        code, message = detail["code"], detail["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.outcome} in no known shape: {answer.body[:100]!r}"
    if set(reply) != {"error"} or set(detail) != {"code", "message"}:
        return f"{answer.outcome} with other fields: {answer.body[:100]!r}"
    if answer.headers.get("content-type") != "application/json":
        return f"{answer.outcome} as {answer.headers.get('content-type')}"
    if not code or not message or len(message) > LONGEST_MESSAGE or "Traceback" in message:
        return f"{answer.outcome} with a message of {len(message)} characters: {message[:100]!r}"
    return None
