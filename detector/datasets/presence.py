"""Whether something lies at a path that a file of a data set gives: such text may be no path at all."""

import os
from pathlib import Path

LONGEST = 4096
"""Bytes of the longest path that Linux takes (PATH_MAX); what is longer need not be tried."""


def is_file(path: Path) -> bool:
    """Whether a file lies there; False for what no file can be called (a NUL, a name of 300 letters), and
    where nobody may look."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises for these)


def is_there(path: Path) -> bool:
    """Whether anything lies there; False as for :func:`is_file`."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises)


def why_absent(path: Path) -> str:
    """Say in words why nothing is found at a path: it ``is not there``, or cannot be."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"
    except OSError as error:
        return f"cannot be used ({error.strerror or error})"
    except ValueError:
        return "cannot be used (no name holds a NUL character)"
    return "is neither a file nor a folder"
