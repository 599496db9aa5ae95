"""What /docs shows beyond the schemas: bodies to send, every error, headers. Examples are files."""

from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import orjson
from pydantic import Field

from api.frontend.middleware import API_VERSION
from api.frontend.schemas import (
    ClassifyReply,
    CocoReply,
    DetectReply,
    ErrorReply,
    ManyClassifyReply,
    ManyReply,
)
from api.frontend.uploads.body import FIELD, FORM_TYPE, JSON_TYPE, RAW_TYPES

DESCRIPTION = """
Finds objects of 200 kinds in pictures, or says which of 1000 kinds of thing they show: R-CNN with a GoogLeNet
backbone ([arXiv 1409.4842](https://arxiv.org/abs/1409.4842)).

Send a picture (JPEG, PNG, WebP, BMP, GIF or TIFF) as the body, one or several as the form field `file`, or as
JSON:

    curl --data-binary @street.jpg -H 'Content-Type: image/jpeg' localhost:8000/detect
    curl -F file=@street.jpg -F file=@harbour.jpg 'localhost:8000/detect?score_threshold=0.5'
    curl --json '{"url": "https://example.org/street.jpg"}' localhost:8000/detect

Boxes are in pixels of the upright picture, its EXIF orientation applied. Of an animation the first frame is
looked at; `frames` says how many there are. The `kind` of a JSON reply says what it is: `detections`,
`classes` or `coco` for one picture, `results` for several. Errors are always
`{"error": {"code": ..., "message": ...}}`: `code` is stable. Every reply states the version of this interface
as `X-API-Version`.
"""

Responses = dict[int | str, dict[str, Any]]

# The examples' cat, 64 pixels wide.
_SMALL_CAT = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L"
    "2u71////m8H////6/+b9//j/2wBDASstLTw1PHZBQXb4pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4"
    "+Pj4+Pj4+Pj4+Pj4+Pj/wAARCAArAEADASIAAhEBAxEB/8QAGAABAAMBAAAAAAAAAAAAAAAAAwABAgT/xAAkEAACAgICAgIC"
    "AwAAAAAAAAABAgARAyESMUFRE2EEIjJxgf/EABcBAQEBAQAAAAAAAAAAAAAAAAEAAgP/xAAXEQEBAQEAAAAAAAAAAAAAAAAA"
    "AREx/9oADAMBAAIRAxEAPwC844gcdWZlf0H2e4v5LCxOcOWPVj3MV0iMb7kX+N+JbtxNcLIF3cxjyLlXioo35glMvQ89GJjJ"
    "ujse5tkDPYkChSBeqqSU5NGpzHF9TrbGW81CBBNepoVQpk5PZ9xWCjH+pFTKAMDM8RfFh/syUYcxR9V/cIIcWTHoBQfdzo+K"
    "ujMOvIVqHFhumsdTmy2+cbtR4i/jvejMqTsD2ZSmwqfGq8WY6Eo4cdWmSr9yfATsEVLx4FIPLubZHgsPXiM+MGFg8Tp8QhEC"
    "VBB39zAIDWdRGhsIYtA6D5h8ZpTs/UZAouupFA9RMQBbcUi8lUsBqJiBC2fMrPrEamcG8IJ2Ysv/2Q=="
)

_BYTES = {"type": "string", "format": "binary"}
_BASE64 = {
    "type": "string",
    "description": "base64, standard or URL-safe, with or without padding and line breaks; may begin as a "
    "data URL (`data:image/png;base64,`)",
}
_FORM = {
    "type": "object",
    "required": [FIELD],
    "properties": {
        FIELD: {
            "type": "array",
            "items": _BYTES,
            "minItems": 1,
            "description": "one or several; the names `files`, `image` and `images` will do as well",
        }
    },
    "additionalProperties": False,
}


def _only(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [key], "properties": {key: value}, "additionalProperties": False}


_JSON = {
    "oneOf": [
        _only("image", _BASE64 | {"title": "one picture (the key `file` will do as well)"}),
        _only(
            "images",
            {
                "title": "several pictures (the key `files` will do as well)",
                "type": "array",
                "items": _BASE64,
                "minItems": 1,
            },
        ),
        _only("url", {"type": "string", "format": "uri", "description": "where the service allows it"}),
    ]
}

IMAGE_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": "X-Timeout-Ms",
            "in": "header",
            "required": False,
            "description": "milliseconds that the answer may take, from the first byte of the request on; "
            "what takes longer is given up with 504",
            "schema": {"type": "integer", "minimum": 1},
        },
        {
            "name": "X-Request-Id",
            "in": "header",
            "required": False,
            "description": "comes back with the reply and stands in the log; else the service makes one up",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        },
    ],
    "requestBody": {
        "required": True,
        "description": "One picture: its bytes, a form of one file, or JSON with `image` or `url`. Several: "
        "a form of several files or JSON with `images`; the reply then is `results`, one for each.",
        "content": {
            FORM_TYPE: {"schema": _FORM},
            JSON_TYPE: {
                "schema": _JSON,
                "examples": {
                    "image": {"summary": "one picture", "value": {"image": _SMALL_CAT}},
                    "images": {"summary": "several pictures", "value": {"images": [_SMALL_CAT, _SMALL_CAT]}},
                    "url": {
                        "summary": "an address, where the service allows it",
                        "value": {"url": "https://example.org/street.jpg"},
                    },
                },
            },
            **{kind: {"schema": _BYTES} for kind in RAW_TYPES},
        },
    },
}

_HEADERS = {
    "X-API-Version": {
        "description": "the version of the interface; a change that breaks clients raises it",
        "schema": {"type": "string", "const": API_VERSION},
    },
    "X-Request-Id": {
        "description": "the request's own, or one made up; the log has it too",
        "schema": {"type": "string"},
    },
}
_RETRY_AFTER = {
    "Retry-After": {"description": "seconds to wait before another try", "schema": {"type": "integer"}}
}


@cache
def _errors_by_status() -> dict[str, dict[str, Any]]:
    data: dict[str, dict[str, Any]] = orjson.loads(
        files("api").joinpath("examples", "errors.json").read_bytes()
    )
    return data


def _error(status: int, *codes: str) -> dict[str, Any]:
    """Return the error of a status, with an example of each code, or of these."""
    known = _errors_by_status()[str(status)]
    messages = {code: message for code, message in known["codes"].items() if not codes or code in codes}
    headers = _HEADERS | (_RETRY_AFTER if status in (429, 503) else {})
    examples = {
        code: {"value": {"error": {"code": code, "message": text}}} for code, text in messages.items()
    }
    return {
        "model": ErrorReply,
        "description": known["description"],
        "headers": headers,
        "content": {"application/json": {"examples": examples}},
    }


def _found(model: Any, description: str, *examples: tuple[str, str], drawn: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {
        "application/json": {
            "examples": {
                name: {
                    "summary": summary,
                    "value": orjson.loads(files("api").joinpath("examples", f"{name}.json").read_bytes()),
                }
                for name, summary in examples
            }
        }
    }
    if drawn:
        content |= {"image/png": {"schema": _BYTES}, "image/jpeg": {"schema": _BYTES}}
    return {"model": model, "description": description, "headers": _HEADERS, "content": content}


_ERRORS: Responses = {
    **{status: _error(status) for status in (400, 403, 404, 408, 413, 415, 422, 429, 500, 502, 504)},
    503: _error(503, "not_ready", "draining", "worker_lost", "out_of_memory"),
}

DETECT: Responses = {
    200: _found(
        Annotated[DetectReply | ManyReply | CocoReply, Field(discriminator="kind")],
        "The objects found, best first; with `format=image` the picture with the objects drawn on it",
        ("detect_one", "one picture"),
        ("detect_many", "several pictures, one of them none"),
        ("detect_coco", "format=coco"),
        drawn=True,
    ),
    **_ERRORS,
    501: _error(501, "not_supported"),
}

CLASSIFY: Responses = {
    200: _found(
        Annotated[ClassifyReply | ManyClassifyReply, Field(discriminator="kind")],
        "The likeliest classes, best first",
        ("classify_one", "one picture"),
        ("classify_many", "several pictures, one of them none"),
    ),
    **_ERRORS,
    501: _error(501, "not_supported"),
}

UNAUTHORIZED: Responses = {401: _error(401)}

LIVE: Responses = {503: _error(503, "not_live")}

READY: Responses = {503: _error(503, "not_ready", "draining")}

METRICS: Responses = {200: {"description": "In Prometheus' text format", "content": {"text/plain": {}}}}

MODELS: Responses = {503: _error(503, "not_ready")}

MODEL: Responses = MODELS | {404: _error(404, "unknown_model")}
