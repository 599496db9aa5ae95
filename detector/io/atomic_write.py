"""Atomic writing of files: a reader, or a kill, never meets a half-written one. Devices and pipes stay."""

import errno
import fcntl
import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from detector.errors import WriteError
from detector.io.terminal_text import printable_path

_MAX_LINKS = 40  # the limit of Linux
_OWN_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self|(\d+)))/fd/(\d+)")

_ADVICE = {
    errno.ENOSPC: "the disk is full: make room, or name another place",
    errno.EDQUOT: "your share of the disk is used up: make room, or name another place",
    errno.EACCES: "no permission: name a place that you may write to",
    errno.EPERM: "no permission: name a place that you may write to",
    errno.EROFS: "the file system is read-only: name another place",
    errno.ENAMETOOLONG: "the name is too long: name a shorter one",
    errno.ENOTDIR: "a file is in the way where a folder should be: name another place",
    errno.EEXIST: "a file is in the way where a folder should be: name another place",
    errno.EISDIR: "a folder is in the way: name a file",
    errno.ELOOP: "its symbolic links lead in a circle: remove them, or name another place",
    errno.ENOENT: "the folder that it or its symbolic link names does not exist: make the folder",
    errno.EPIPE: "its reader went away before all was read",
    errno.ENXIO: "it is a socket or a device that is absent: name a file",
    errno.EBADF: "the descriptor is closed, or open for reading only: name a file",
    errno.EBUSY: "it is in use, as by a mount: name another place",
}


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, making its folder; an existing file is replaced at once or not at all.

    A replaced file's permissions and, where allowed, owner are kept. A symbolic link stays, and the file it
    names is written. A pipe, a character device or an open descriptor (``/dev/stdout``, ``/dev/fd/3``) is
    written into; opening a pipe waits for its reader.

    Raises WriteError, which names the path, the reason and what to do.
    """
    try:
        target = _target(path)
        if isinstance(target, int):
            _write_into_descriptor(target, data)
            return
        if not path.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
        replaced = _status(target)
        if replaced is not None and not stat.S_ISREG(replaced.st_mode):
            _write_into(os.open(target, os.O_WRONLY | os.O_NOCTTY), data)
        else:
            _replace(target, replaced, data)
    except OSError as error:
        raise write_error(path, error) from error


def check_writable(path: Path) -> None:
    """Check, before work is done, that :func:`write_whole` could write ``path``. Nothing is changed.

    Raises WriteError as write_whole does. Later failures (the disk fills up) cannot be foreseen.
    """
    try:
        target = _target(path)
        if isinstance(target, int):
            if fcntl.fcntl(target, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OSError(errno.EBADF, "is open for reading only")
            return
        if _status(target) is None:
            folder = target.parent
            while not path.is_symlink() and not os.path.lexists(folder):
                folder = folder.parent
            folder_status = folder.stat()
            if not stat.S_ISDIR(folder_status.st_mode):
                raise OSError(errno.ENOTDIR, "is no folder")
            if not _may(folder, os.W_OK | os.X_OK):
                raise _access_error(folder)
        elif stat.S_ISREG(target.stat().st_mode) and not os.access(
            target.parent, os.W_OK | os.X_OK, effective_ids=True
        ):
            raise _access_error(target.parent)
    except OSError as error:
        raise write_error(path, error) from error


def _target(path: Path) -> Path | int:
    """Follow symbolic links and return what is to be written: a path, or the number of an open descriptor.

    Raises OSError (ELOOP) for links that lead in a circle.
    """
    for _ in range(_MAX_LINKS):
        try:
            path = path.parent.resolve() / path.name
        except RuntimeError as error:  # raised for a loop by Python before 3.13
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
        match = _OWN_DESCRIPTOR.fullmatch(os.fspath(path))
        if match and match[1] in (None, str(os.getpid())):
            return int(match[2])
        if not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _may(path: Path, mode: int) -> bool:
    """Return whether this process, by its effective ids, has access ``mode`` (os.W_OK, ...) to ``path``."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _status(target: Path) -> os.stat_result | None:
    """Return the status of an existing target, or None if there is none.

    Raises OSError for a target that must or may not be written.
    """
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "is a folder")
    if stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.ENXIO, "is a socket")
    if stat.S_ISBLK(status.st_mode):  # writing would destroy the file system on it
        raise OSError(errno.EINVAL, "it is a disk: name a file")
    if not _may(target, os.W_OK):
        raise _access_error(target)
    return status


def _access_error(path: Path) -> OSError:
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    return OSError(errno.EROFS if read_only else errno.EACCES, "may not be written")


def _replace(target: Path, replaced: os.stat_result | None, data: bytes) -> None:
    temporary = target.with_name(f".{uuid4().hex}.partial")  # short, so that a long name has room
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
    try:
        if replaced is not None:
            with suppress(PermissionError):
                os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
            os.fchmod(descriptor, replaced.st_mode & 0o777)
        _write_into(descriptor, data)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _write_into_descriptor(number: int, data: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):  # what was printed earlier has to come first
        if stream is not None:
            stream.flush()
    _write_into(os.dup(number), data)


def _write_into(descriptor: int, data: bytes) -> None:
    """Write all of ``data`` into a descriptor and close it."""
    with open(descriptor, "wb") as file:
        file.write(data)


def write_error(path: Path, error: OSError) -> WriteError:
    """Return the error that names a path that cannot be written, the reason, and what to do."""
    reason = _ADVICE.get(error.errno or 0) or error.strerror or str(error)
    told = WriteError(f"cannot write {printable_path(path)}: {reason}")
    # No errno: the framework of the commands would act on it by itself.
    told.strerror = error.strerror
    return told
