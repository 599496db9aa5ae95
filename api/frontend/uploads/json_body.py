"""JSON that carries pictures: ``{"image": base64}``, ``{"images": [base64, ...]}`` or ``{"url": "https://..."}``.

``file`` and ``files``, as forms have them, are taken for ``image`` and ``images``.
"""

import binascii
import re
from typing import Any

import orjson

from api.frontend.uploads.body import Upload, UploadLimits, Uploads, bounded_upload, too_many_images
from api.protocol.errors import ApiError

# Objects of Python take up to 24 times the bytes of the JSON they come from. The JSON of pictures is a few
# long texts: a large body of many small values is refused before they are made.
_LARGE = 64 * 1024
_MOST_VALUES = 10_000

_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.ASCII | re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n"
_TEXTS = "a list of texts, one picture or more"
_WANTED = {"image": "a text", "file": "a text", "images": _TEXTS, "files": _TEXTS, "url": "a text"}
_ADVICE = 'Send {"image": "<base64>"}, {"images": ["<base64>", ...]} or {"url": "https://..."}.'
_BLOCK = 1 << 20  # characters that are decoded at once


def parse_json(body: bytes | bytearray, limits: UploadLimits) -> Uploads | str:
    """Return the images in a JSON body, or the address in one.

    Base64 may be of the standard or the URL-safe alphabet, with or without its padding, broken into lines,
    and begin as a data URL (``data:image/png;base64,``). One bad picture of several is an Upload with a
    refusal.

    A bytearray is emptied, so that its memory is free while the pictures are decoded.

    Raises ApiError: 400 ``malformed_json`` or ``bad_base64``, 413 for too many or too large pictures.
    """
    return json_uploads(load_json(body, _ADVICE), limits)


def json_uploads(content: object, limits: UploadLimits) -> Uploads | str:
    """Return the images in the content of a JSON body, or the address in it; raises as :func:`parse_json`."""
    if not isinstance(content, dict) or len(content) != 1:
        raise malformed_json("it is not an object with exactly one key", _ADVICE)
    [(key, value)] = content.items()
    match key, value:
        case "image" | "file", str():
            upload = base64_upload(value, limits)
            if upload.refusal is not None:
                raise upload.refusal
            return Uploads((upload,), many=False)
        case "images" | "files", list() if value and all(isinstance(item, str) for item in value):
            if len(value) > limits.max_pictures:
                raise too_many_images(limits)
            return Uploads(tuple(base64_upload(text, limits) for text in value), many=True)
        case "url", str():
            return value
    if key in _WANTED:
        raise malformed_json(f"{key!r} must be {_WANTED[key]}, and is {kind_of(value)}", _ADVICE)
    raise malformed_json(f"there is no key {key[:40]!r}", _ADVICE)


def load_json(body: bytes | bytearray, advice: str) -> Any:
    """Return the content of a JSON body. A bytearray is emptied.

    Raises ApiError 400 ``malformed_json``, which ends with the advice, for what is no JSON or holds far more
    values than pictures.
    """
    if len(body) > _LARGE and sum(map(body.count, (b"{", b"[", b","))) > _MOST_VALUES:
        raise malformed_json("it has far more values than pictures", advice)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = _what_is_wrong(error, empty=len(body) < 100 and not body.strip())
        raise malformed_json(problem, advice) from error
    if isinstance(body, bytearray):
        body.clear()  # all of it is in the texts now
    return content


def _what_is_wrong(error: orjson.JSONDecodeError, *, empty: bool) -> str:
    if empty:
        return "the body is empty"
    if "UTF-8:" in error.msg:
        return "it is not UTF-8"
    if "BOM" in error.msg:
        return "it begins with a byte order mark, which JSON has none"
    return f"{error.msg} in line {error.lineno}, column {error.colno}"


def kind_of(value: object) -> str:
    """Return what a value of JSON is, in its own words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case []:
            return "an empty list"
        case list():
            return "a list with something else in it"
    return "an object"


def base64_upload(text: str, limits: UploadLimits, name: str | None = None) -> Upload:
    """Return the image of a base64 text or a data URL; with a refusal if it is neither, or too large."""
    try:
        data = _from_base64(text)
    except ValueError as error:
        bad = ApiError(
            400, "bad_base64", f"The picture is not base64: {error}. Encode the bytes of its file."
        )
        return Upload(b"", name, bad)
    return bounded_upload(data, limits, name)


def _from_base64(text: str) -> bytes:
    prefix = _DATA_URL.match(text)
    if prefix is not None:
        text = text[prefix.end() :]
    if not text.isascii():
        raise ValueError("it has characters beyond ASCII")
    data, rest, padded = bytearray(), b"", False
    for first in range(0, len(text), _BLOCK):  # not at once: that would hold other threads up
        block = rest + text[first : first + _BLOCK].encode().translate(_URL_SAFE, delete=_WHITESPACE)
        stripped = block.rstrip(b"=")
        if b"=" in stripped or (padded and stripped):
            raise ValueError("there is padding within it")
        padded = padded or len(stripped) < len(block)
        whole = len(stripped) - len(stripped) % 4
        data += _decoded(stripped[:whole])
        rest = stripped[whole:]
    if len(rest) == 1:
        raise ValueError("its length is that of no base64")
    data += _decoded(rest + b"=" * (-len(rest) % 4))
    return bytes(data)


def _decoded(encoded: bytes) -> bytes:
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error as error:
        raise ValueError(str(error).lower()) from error


def malformed_json(problem: str, advice: str) -> ApiError:
    """Return the refusal of a body of JSON."""
    return ApiError(400, "malformed_json", f"The JSON cannot be used: {problem}. {advice}")
