"""Checks of paths before files are opened: whether a file is there, and if not, why."""

import errno
import os
import stat
from pathlib import Path

from detector.errors import ParameterError
from detector.io.terminal_text import printable_path

_REASONS = {
    errno.ENOENT: "does not exist",
    errno.EACCES: "may not be read: ask for the permission, or name another file",
    errno.EPERM: "may not be read: ask for the permission, or name another file",
    errno.ELOOP: "cannot be read: its symbolic links lead in a circle",
    errno.ENOTDIR: "does not exist: a file stands where its path has a folder",
    errno.ENAMETOOLONG: "does not exist: no file has so long a name",
}


def unreadable(path: Path) -> str | None:
    """Return a message, the path first, why a file cannot be read; None if it can."""
    shown = printable_path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return f"{shown} is a folder: name a file"
        if not stat.S_ISREG(mode):
            return f"{shown} is a pipe, a socket or a device: name a file"
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"cannot be read: {error.strerror}")
        return f"{shown} {reason}"
    except ValueError:  # a NUL in the path
        return f"{shown} does not exist: no file can have such a name"
    return None


def check_path(path: Path) -> None:
    """Raise ParameterError for a path that no file can have."""
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise ParameterError(f"no file can be called {str(path)!r}: paths cannot hold such signs")


LONGEST = 4096
"""The longest path that Linux takes (PATH_MAX), in bytes; a longer one need not be tried."""


def is_file(path: Path) -> bool:
    """Return whether ``path`` is a file.

    Returns False for an impossible name (one with a NUL, or of 300 letters), and for a path that may not be
    looked up.
    """
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises for these)


def is_there(path: Path) -> bool:
    """Return whether anything exists at ``path``; False for impossible names, as in :func:`is_file`."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises)


def why_absent(path: Path) -> str:
    """Return in words why no file is found at a path, such as ``is not there``."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"
    except OSError as error:
        return f"cannot be used ({error.strerror or error})"
    except ValueError:
        return "cannot be used (no name holds a NUL character)"
    return "is neither a file nor a folder"
