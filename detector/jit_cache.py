"""numba's compiler with a cache on disk that never stands in the way.

``njit(cache=True)`` fails at import where no folder can be written to, and passes on every error of a damaged
cache and of a full disk. Here compiled code is read from wherever it lies and written to the first folder
that takes it: ``NUMBA_CACHE_DIR``, ``__pycache__`` beside the source, the user's cache folder, one of the
user's own in the folder for temporary files. Where none does, it is compiled in memory, which one line of
the log says.

A cached file is a pickle: who writes it has his code run by who reads it. So a file counts only if it belongs
to this user, to root or to the owner of the source, and nobody else may write to it. Its digest covers what
it was compiled from and for (source, signature, processor, versions), so that a file that is cut off, changed
or renamed is as good as none, and processes that write at once cannot mix their files up.
"""

import hashlib
import logging
import os
import pickle
import stat
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

_log = logging.getLogger(__name__)

_DIGEST = hashlib.sha256
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cached_njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate as ``numba.njit(**options)``, its compiled code kept on disk where that can be done."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if Path(function.__code__.co_filename).is_file():  # else it cannot be told whether kept code is of it
            dispatcher._cache = _DiskCache(function)
        return dispatcher

    return compiled


class _DiskCache(NullCache):
    """What numba asks before it compiles one function, and hands the result to."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"
        self._source = Path(function.__code__.co_filename)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the function compiled for a signature, None where it is not there or cannot be used."""
        target_context.refresh()  # knows the symbols that the code is linked to
        key = self._key(sig, target_context.codegen())
        for folder in _folders(self._source):
            data = _read(folder / self._file(key), key, self._source)
            if data is not None:
                return CompileResult._rebuild(target_context, *pickle.loads(data))
        _tell_once("Compiling selective search, once for this installation: a quarter of a minute or so")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the function compiled for a signature to the first folder that takes it."""
        if data.library.has_dynamic_globals:  # addresses of this process
            return
        key = self._key(sig, data.codegen)
        content, problems = dumps(data._reduce()), []
        for folder in _folders(self._source):
            try:
                _write(folder / self._file(key), key, content)
                return
            except OSError as error:
                problems.append(f"{folder}: {error.strerror or error}")
        _warn_once(
            "compiled code cannot be kept on disk: selective search is compiled in memory whenever a process "
            "first runs it, which takes some seconds. Set NUMBA_CACHE_DIR to a folder that this user may "
            f"write to ({'; '.join(problems)})"
        )

    def _key(self, signature: Any, codegen: Any) -> bytes:
        """Return all that the compiled code depends on."""
        versions = numba.__version__, sys.implementation.cache_tag
        source = _DIGEST(self._source.read_bytes()).hexdigest()
        return repr((versions, source, self._name, signature, codegen.magic_tuple())).encode()

    def _file(self, key: bytes) -> str:
        return f"{self._name}.{_DIGEST(key).hexdigest()[:24]}.jit"


def _folders(source: Path) -> Iterator[Path]:
    """Yield where code compiled from a source file may lie, the first choice first."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(given)
    yield source.parent / "__pycache__"
    user = _user_cache()
    if user is not None:
        yield user / "googlenet-detector"
    temporary = Path(os.environ.get("TMPDIR") or "/tmp") / f"googlenet-detector-{os.geteuid()}"
    if _own_folder(temporary):
        yield temporary


def _user_cache() -> Path | None:
    """Return the folder that the XDG specification gives a user's caches, if the user has a home."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        return None
    return home / ".cache" if home.is_absolute() and home.is_dir() else None


def _own_folder(folder: Path) -> bool:
    """Return whether a folder in a place that is everybody's is this user's alone; it is made where it is
    absent."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()  # a link may lead where somebody else wants files of ours
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & _OTHERS_WRITE


def _read(path: Path, key: bytes, source: Path) -> bytes | None:
    """Return what :func:`_write` wrote under this key; None where it is not there, not whole or not
    trusted."""
    try:
        # Not blocking: somebody may have put a pipe there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return None
        if about.st_mode & _OTHERS_WRITE or about.st_uid not in {0, os.geteuid(), source.stat().st_uid}:
            _warn_once(f"compiled code in {path.parent} is not used: others could have put it there")
            return None
        digest, data = file.read(_DIGEST().digest_size), file.read()
    return data if digest == _DIGEST(key + data).digest() else None


def _write(path: Path, key: bytes, data: bytes) -> None:
    """Write a file whole or not at all, which nobody but this user may change. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_DIGEST(key + data).digest() + data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def _tell_once(message: str) -> None:
    _log.info("%s", message)


@cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)
