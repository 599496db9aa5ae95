"""Multipart forms (RFC 7578) that are in memory already.

Starlette's own form reading would spool a picture to disk, and has no limit for the size of a file.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


@dataclass(frozen=True)
class Part:
    """One field of a form: its name, the file name if it has one, and its bytes."""

    name: str
    filename: str | None
    data: bytes


class TooManyParts(ValueError):
    """A form of more fields than are wanted."""


def parse_form(content_type: str, body: bytes | bytearray, max_parts: int) -> list[Part]:
    """The fields of a form.

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
