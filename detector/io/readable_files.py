"""Files to be read, looked at before they are opened: what lies at a path, and why nothing does."""

import errno
import os
import stat
from pathlib import Path

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
    """Say in words, its path first, why there is no file to be read; None if there is one."""
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
    except ValueError:  # a zero byte
        return f"{shown} does not exist: no file can have such a name"
    return None


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
