"""Multipart forms (RFC 7578) that are in memory already.

Starlette's form reading parses in the event's loop, where a form of many parts holds up all requests; it
takes a field without a file name for text, and what a form without its end has lacks the last part in
silence.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.frontend.uploads.body import (
    FIELD,
    FIELDS,
    UploadLimits,
    Uploads,
    bounded_upload,
    too_many_images,
)
from api.protocol.errors import ApiError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


def read_form(content_type: str, body: bytearray, limits: UploadLimits) -> Uploads:
    """Return the images in a form: the fields of ``FIELDS``.

    Raises ApiError: 400 ``malformed_form`` or ``missing_file``, 413 for too many images or a single one that
    is too large, 422 for a field that would be ignored in silence.
    """
    try:
        parts = parse_form(content_type, body, limits.max_pictures + 1)
    except TooManyParts as error:
        raise too_many_images(limits) from error
    except ValueError as error:
        raise ApiError(
            400,
            "malformed_form",
            f"The multipart form is malformed: {error}. Let your HTTP library write it.",
        ) from error
    others = [part.name for part in parts if part.name.removesuffix("[]") not in FIELDS]
    if len(others) == len(parts):
        raise ApiError(
            400,
            "missing_file",
            f"The form has no field {FIELD!r}. Send the picture in one, or several in several.",
        )
    if others:
        raise ApiError(
            422,
            "invalid_parameter",
            f"There is no form field {others[0][:40]!r}. Pictures go in {FIELD!r}, all else in the query.",
        )
    if len(parts) > limits.max_pictures:
        raise too_many_images(limits)
    uploads = [bounded_upload(part.data, limits, part.filename) for part in parts]
    if len(uploads) == 1 and uploads[0].refusal is not None:
        raise uploads[0].refusal
    return Uploads(tuple(uploads), many=len(uploads) > 1)


@dataclass(frozen=True)
class Part:
    """One field of a form: its name, the file name if it has one, and its bytes."""

    name: str
    filename: str | None
    data: bytes


class TooManyParts(ValueError):
    """A form of more fields than are wanted."""


def parse_form(content_type: str, body: bytes | bytearray, max_parts: int) -> list[Part]:
    """Return the fields of a form.

    Raises TooManyParts, before anything is taken apart, for more than ``max_parts``, and ValueError if the
    form is malformed or lacks its end.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise ValueError("the content type states no boundary")
    # A boundary follows each field. The parser is slow at each, and at what is nearly one: counted first.
    if body.count(b"\r\n--" + boundary) > max_parts:
        raise TooManyParts
    form = _Form()
    try:
        MultipartParser(boundary, form.callbacks()).write(body)  # type: ignore[arg-type]  # bytes-like will do
    except FormParserError as error:
        raise ValueError(str(error)) from error
    if not form.complete:
        raise ValueError("the form lacks its closing boundary")
    return [
        Part(name, filename, b"".join(pieces))
        for (name, filename), pieces in zip(form.heads, form.pieces, strict=True)
    ]


class _Form:
    """Collects what the parser calls out."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, str | None]] = []
        self.pieces: list[list[memoryview]] = []
        self.complete = False
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_continues,
            "on_header_value": self._value_continues,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data_continues,
            "on_end": self._form_ends,
        }

    def _part_begins(self) -> None:
        self._disposition = b""

    def _header_continues(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _value_continues(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"name" not in options:
            raise FormParserError("a part of the form has no name")
        filename = options.get(b"filename")
        self.heads.append((_text(options[b"name"]), None if filename is None else _text(filename)))
        self.pieces.append([])

    def _data_continues(self, data: bytes, start: int, end: int) -> None:
        self.pieces[-1].append(memoryview(data)[start:end])

    def _form_ends(self) -> None:
        self.complete = True


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
