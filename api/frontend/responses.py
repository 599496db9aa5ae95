"""Replies to images: what was found in one, the list of several, or a drawn image."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import orjson
from fastapi import Request, Response

from api.frontend.errors import json_reply
from api.frontend.uploads.body import Upload, Uploads
from api.protocol.errors import ApiError
from api.protocol.messages import Answer


def objects_reply(
    request: Request, uploads: Uploads, answers: Sequence[Answer | ApiError], kind: str, start: float
) -> Response:
    """Return the reply to one image, or the list of all. A single image's error is the request's.

    ``kind`` is that of each entry: ``detections``, ``classes`` or ``coco``.
    """
    total = round((perf_counter() - start) * 1000, 1)
    if not uploads.many:
        [upload], [answer] = uploads.items, answers
        if isinstance(answer, ApiError):
            raise answer
        request.state.log["timing_ms"] = {**answer.timing_ms, "total": total}
        return json_reply(_entry(upload, answer, kind, total))
    count_refused(request, answers)
    return json_reply({"kind": "results", "results": entries(uploads, answers, kind, total)})


def count_refused(request: Request, answers: Sequence[Answer | ApiError]) -> None:
    """Log and count the refusals among the answers to several images."""
    refused = [answer for answer in answers if isinstance(answer, ApiError)]
    for answer in refused:
        request.app.state.metrics.refused(answer.code)
    request.state.log.update(pictures=len(answers), refused=len(refused))


def entries(
    uploads: Uploads, answers: Sequence[Answer | ApiError], kind: str, total: float
) -> list[dict[str, Any] | orjson.Fragment]:
    """Return an entry for each image, what is wrong with it for one that was refused."""
    return [
        _refused_entry(upload, answer)
        if isinstance(answer, ApiError)
        else _entry(upload, answer, kind, total)
        for upload, answer in zip(uploads.items, answers, strict=True)
    ]


def _refused_entry(upload: Upload, error: ApiError) -> dict[str, Any]:
    return {"kind": "error", "image": upload.name, "error": {"code": error.code, "message": str(error)}}


def _entry(upload: Upload, answer: Answer, kind: str, total: float) -> dict[str, Any] | orjson.Fragment:
    """Return the entry of one image. What the worker serialised is not parsed again."""
    about = {
        "kind": kind,
        "image": upload.name,
        "width": answer.width,
        "height": answer.height,
        "frames": answer.frames,
    }
    ends = {"model": answer.model, "timing_ms": {**answer.timing_ms, "total": total}}
    if kind != "coco":
        return {**about, kind: orjson.Fragment(answer.body), **ends}
    # COCO's keys stand beside the others: three objects become one where their braces meet.
    whole = orjson.dumps(about)[:-1] + b"," + answer.body[1:-1] + b"," + orjson.dumps(ends)[1:]
    return orjson.Fragment(whole)


def image_reply(uploads: Uploads, answers: Sequence[Answer | ApiError]) -> Response:
    """Return the drawn image. Raises ApiError if it was refused, or if there are several."""
    if uploads.many:
        raise ApiError(422, "invalid_parameter", "format: an image answers one picture only. Send one.")
    [answer] = answers
    if isinstance(answer, ApiError):
        raise answer
    return Response(answer.body, media_type=answer.media_type)
