"""Memory that is free, given back to the system."""

import ctypes
import gc
from functools import cache
from typing import Any


def give_back_free_memory() -> None:
    """Have the C library return what it keeps for later: after a network was compiled, that is more than the
    network itself. Does nothing where the library knows no such thing."""
    gc.collect()
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    """Return glibc's function, None on other systems."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
