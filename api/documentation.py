"""What /docs shows beyond the schemas: request bodies, examples, every error."""

from typing import Any

from api.body import FIELD, RAW_TYPES
from api.schemas import ErrorReply

DESCRIPTION = """
Finds objects of 200 kinds in a picture, or says which of 1000 kinds of thing it shows: R-CNN with a GoogLeNet
backbone ([arXiv 1409.4842](https://arxiv.org/abs/1409.4842)).

Send a JPEG, PNG, WebP or BMP picture as the body or as the form field `file`:

    curl --data-binary @street.jpg -H 'Content-Type: image/jpeg' localhost:8000/detect
    curl -F file=@street.jpg 'localhost:8000/detect?score_threshold=0.5'

Boxes are in pixels of the upright picture, its EXIF orientation applied.
"""

Responses = dict[int | str, dict[str, Any]]

_BYTES = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": [FIELD], "properties": {FIELD: _BYTES}, "additionalProperties": False}

PICTURE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The picture: a multipart form with one field, or the bytes themselves.",
        "content": {"multipart/form-data": {"schema": _FORM}}
        | {kind: {"schema": _BYTES} for kind in RAW_TYPES},
    }
}


def _example(description: str, example: object) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": example}}}


def _errors(description: str, *errors: tuple[str, str]) -> dict[str, Any]:
    examples = {code: {"value": {"error": {"code": code, "message": message}}} for code, message in errors}
    return {
        "model": ErrorReply,
        "description": description,
        "content": {"application/json": {"examples": examples}},
    }


_NOT_READY = _errors("Not ready", ("not_ready", "The weights are not loaded yet. Try again in a moment."))

_ERRORS: Responses = {
    400: _errors(
        "No picture in the request",
        ("empty", "The request has no body. Send the picture as the body or as the form field 'file'."),
        ("missing_file", "The form has 0 fields 'file'. Send exactly one, the picture."),
        (
            "malformed_form",
            "The multipart form is malformed: the form lacks its closing boundary. "
            "Let your HTTP library write it.",
        ),
    ),
    413: _errors(
        "Too large",
        (
            "too_many_bytes",
            "The picture has more than the 33,554,432 bytes allowed. Scale it down or compress it more.",
        ),
        (
            "too_many_pixels",
            "The picture has 60000 x 60000 = 3,600,000,000 pixels, more than the 50,000,000 allowed. "
            "Scale it down; nothing is gained by more.",
        ),
    ),
    415: _errors(
        "Not a picture of a supported format",
        (
            "unsupported_media_type",
            "The Content-Type is text/plain. Send image/jpeg, image/png, image/webp, image/bmp, or "
            "multipart/form-data with the field 'file'.",
        ),
        (
            "unsupported_format",
            "This is not a picture in a supported format. Convert it to JPEG, PNG, WebP or BMP.",
        ),
    ),
    422: _errors(
        "A bad or unknown parameter, or a picture that cannot be read",
        ("invalid_parameter", "score_threshold: Input should be less than or equal to 1. See /docs."),
        ("truncated", "The JPEG picture ends before all of it was there. Send it again."),
        (
            "unreadable",
            "The JPEG picture is damaged or has no pixels. Open it in an image program and save it anew.",
        ),
    ),
    500: _errors(
        "A fault of the service",
        ("internal_error", "Something went wrong here. It is in the service's log."),
    ),
    503: _NOT_READY,
}

DETECT: Responses = {
    200: _example(
        "The objects found, best first",
        {
            "image": "cat.jpg",
            "width": 451,
            "height": 300,
            "detections": [
                {
                    "label": "domestic cat",
                    "wnid": "n02121808",
                    "score": 0.8543,
                    "box": {"xmin": 150.9, "ymin": 0.0, "xmax": 423.4, "ymax": 279.9},
                },
            ],
            "model": "googlenet-ilsvrc-det200",
            "timing_ms": {"decode": 2.3, "proposals": 47.0, "classify": 1580.4, "total": 1630.5},
        },
    ),
    **_ERRORS,
    501: _errors(
        "The weights cannot serve the profile",
        (
            "not_supported",
            "The loaded weights have no MultiBox head. Leave profile out, or ask for profile=search.",
        ),
    ),
}

CLASSIFY: Responses = {
    200: _example(
        "The likeliest classes, best first",
        {
            "image": "cat.jpg",
            "width": 451,
            "height": 300,
            "classes": [
                {"label": "Egyptian cat", "wnid": "n02124075", "score": 0.4066},
                {"label": "tiger cat", "wnid": "n02123159", "score": 0.3076},
                {"label": "tabby", "wnid": "n02123045", "score": 0.2578},
            ],
            "model": "googlenet-ilsvrc-det200",
            "timing_ms": {"decode": 2.2, "classify": 35.0, "total": 38.7},
        },
    ),
    **_ERRORS,
    501: _errors(
        "The weights cannot classify",
        (
            "not_supported",
            "The loaded weights detect only. Load weights that classify, or POST /detect.",
        ),
    ),
}

HEALTH: Responses = {503: _NOT_READY}
