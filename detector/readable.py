"""Files to be read, looked at before they are opened: a pipe would wait for its writer without end."""

import errno
import os
import stat
from pathlib import Path

from detector.text import printable_path

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
