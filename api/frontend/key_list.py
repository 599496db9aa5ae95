"""Lists of API keys, as settings and files hold them. No message ever shows a key."""

import re
from pathlib import Path

from pydantic import SecretStr

KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")  # visible ASCII but the comma: what a header can carry


def split_keys(value: object) -> object:
    """The keys that commas part; anything but text passes unchanged. Raises ValueError for what is no key."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        return value
    keys = [key.strip() for key in value.split(",")]
    for number, key in enumerate(keys, 1):
        if not KEY.fullmatch(key):
            raise ValueError(f"key {number} of {len(keys)} {_what_is_wrong(key)}")
    return tuple(keys)


def read_keys(path: Path) -> set[str]:
    """The keys of a file, one a line; empty lines and those that begin with ``#`` do not count.

    Raises ValueError for a file that cannot be read, a line that is no key, or a file without any: it was
    meant to guard the service.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"{path} cannot be read: {why}") from None
    keys = set()
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not KEY.fullmatch(key):
            raise ValueError(f"line {number} of {path} {_what_is_wrong(key)}")
        keys.add(key)
    if not keys:
        raise ValueError(f"{path} holds no key; write one a line, or leave this setting out")
    return keys


def _what_is_wrong(key: str) -> str:
    return "has a space, comma or other sign that a header cannot carry" if key else "is empty"
