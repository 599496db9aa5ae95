"""Text and JSON files as tools write them: any encoding of Unicode, with or without a byte order mark."""

import codecs
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from detector.datasets.formats.values import shown
from detector.errors import DatasetError

_MARKS = (  # UTF-32's first: it begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


_WHAT_IS_WRONG = {
    "Expecting value": "no value stands where one belongs",
    "Expecting property name enclosed in double quotes": "no name in double quotes stands where one belongs",
    "Expecting ':' delimiter": "no colon stands where one belongs",
    "Expecting ',' delimiter": "no comma stands where one belongs",
    "Unterminated string starting at": "the text that begins here has no end",
    "Invalid control character at": "a line feed or another control character stands in a text",
    "Extra data": "something follows where the content has ended",
    "Illegal trailing comma before end of object": "a comma is followed by nothing",
    "Illegal trailing comma before end of array": "a comma is followed by nothing",
}
"""What Python's reader says, in words."""


def read_bytes(path: Path, *, pipes: bool = False) -> bytes:
    """Read a file that lies in a data set.

    A pipe or a device, which may never give anything or never end, is refused; with ``pipes``, for what the
    user names, it is read too. Raises FileNotFoundError if there is no such file, DatasetError if it cannot
    be read.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or pipes):
            raise DatasetError(f"{path} cannot be read: it is a pipe, a socket or a device, and no file")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in its name
        raise DatasetError(f"{shown(os.fspath(path))} cannot be read: {error}") from error


def read_text(path: Path, *, pipes: bool = False) -> str:
    """Read a text file in UTF-8, UTF-16 or UTF-32; a byte order mark is taken off.

    Bytes that are not UTF-8 become lone surrogates, as Python has them in the names of files: a list written
    on a Latin-1 disk names its pictures. ``pipes`` and errors are those of :func:`read_bytes`.
    """
    data = read_bytes(path, pipes=pipes)
    encoding = encoding_by_mark(data)
    if encoding is None:
        encoding = json.detect_encoding(data) if b"\0" in data[:4] else "utf-8"
    try:
        return data.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "strict")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} cannot be read as {encoding.upper()}: {error.reason}") from error


def encoding_by_mark(data: bytes) -> str | None:
    """Return the encoding that a byte order mark tells, under which Python takes the mark off."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def all_lines(path: Path) -> list[str]:
    """Return the lines of a text file, also the blank ones, stripped; their numbers are those of an editor.
    Raises DatasetError if it cannot be read."""
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise DatasetError(f"list file {path} cannot be read: there is no such file") from error
    except DatasetError as error:
        raise DatasetError(f"list file {error}") from error
    return [line.strip() for line in re.split("\r\n|\r|\n", text)]  # names may hold other ends of lines


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank, stripped. Raises DatasetError if it cannot be
    read."""
    return [line for line in all_lines(path) if line]


def read_json(path: Path, *, pipes: bool = False) -> Any:
    """Read a JSON file; with ``pipes`` also from a pipe.

    Raises DatasetError naming the file, and the line and column where it is broken, or the key that one
    object has twice with different values: Python would drop the first in silence.
    """
    try:
        return json.loads(read_text(path, pipes=pipes), object_pairs_hook=_each_key_once)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} cannot be read: there is no such file") from error
    except json.JSONDecodeError as error:
        at_end = not error.doc[error.pos :].strip()
        cut = (
            ": the file is cut off, or was not written to its end; copy or export it again" if at_end else ""
        )
        raise DatasetError(
            f"{path} cannot be read as JSON: line {error.lineno}, column {error.colno}: "
            f"{_WHAT_IS_WRONG.get(error.msg, error.msg)}{cut}"
        ) from error
    except RecursionError as error:
        raise DatasetError(f"{path} cannot be read as JSON: its brackets are nested too deeply") from error
    except _KeyTwiceError as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}") from error
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read as JSON: a number has thousands of digits") from error


class _KeyTwiceError(ValueError):
    pass


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for name, value in pairs:
            if value != found[name]:
                raise _KeyTwiceError(
                    f"an object has the key {name!r} twice, with different values: leave one of them"
                )
    return found
