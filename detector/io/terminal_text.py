"""Escaping of text from files for terminals and logs."""

import os
import re

# Control characters, separators of lines and paragraphs, changes of direction, halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace control characters by escapes: the text can neither move a cursor nor begin a line."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def valid_name(path: str | os.PathLike[str]) -> str:
    """Return a path as text that every encoder takes: bytes that are not UTF-8 become ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def utf8_text(text: str) -> str:
    """Replace lone surrogates (bytes of a file name that is not UTF-8) by escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable_path(path: str | os.PathLike[str]) -> str:
    """Return a path as one printable line."""
    return printable(valid_name(path))


def one_line(error: object, limit: int = 500) -> str:
    """Return an error's message as one printable line of at most about ``limit`` characters."""
    text = printable(" ".join(str(error).split()))
    return text if len(text) <= limit else f"{text[:limit]} ..."
