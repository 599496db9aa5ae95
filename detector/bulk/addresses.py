"""Pictures by address: over HTTP, and in stores of objects."""

import time
from collections.abc import Callable
from http.client import HTTPException, IncompleteRead
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pyarrow as pa
from pyarrow import fs

from detector.errors import ImageError
from detector.io.decoding import Decoded, Limits, read

SECONDS = 30
"""How long a server may be silent."""

TRIES = 3
"""How often a server is asked that is busy or cannot be reached."""

_MAX_BYTES = Limits().max_bytes
_BUSY = (429, 500, 502, 503, 504)


def is_address(text: str) -> bool:
    """Tell whether a text is an address, and no path."""
    scheme, colon, _ = text.partition("://")
    return bool(colon) and scheme.isascii() and scheme.isalnum()


def read_address(address: str, *, sleep: Callable[[float], object] = time.sleep) -> Decoded:
    """Fetch and decode a picture: by HTTP, or from what pyarrow opens (``file://``, ``s3://``, ``gs://``).

    Whoever lists the addresses is trusted: they may lead anywhere. A server that is busy, or away, is asked
    again, ``sleep`` seconds later. Raises ImageError for what is no picture, OSError for what does not come.
    """
    try:
        scheme = urlsplit(address).scheme.lower()
        fetch = _over_http if scheme in ("http", "https") else _from_store
        return read(fetch(address, _MAX_BYTES + 1, sleep))
    except (pa.ArrowException, HTTPException, ValueError) as error:  # an address that is none
        raise ImageError("unreadable", f"The address cannot be read: {error}.") from error


def _over_http(address: str, size: int, sleep: Callable[[float], object]) -> bytes:
    for number in range(TRIES):
        try:
            request = Request(address, headers={"User-Agent": "googlenet-detector"})
            with urlopen(request, timeout=SECONDS) as reply:
                return reply.read(size)
        except HTTPError as error:
            if error.code not in _BUSY or number == TRIES - 1:
                raise OSError(f"the server says {error.code} {error.reason}") from error
        except URLError as error:
            if number == TRIES - 1:
                raise OSError(f"the server cannot be reached: {error.reason}") from error
        except (TimeoutError, ConnectionError, IncompleteRead):
            if number == TRIES - 1:
                raise
        sleep(2.0**number)
    raise AssertionError("the last try returns or raises")


def _from_store(address: str, size: int, sleep: Callable[[float], object]) -> bytes:
    store, path = fs.FileSystem.from_uri(address)
    with store.open_input_stream(path) as stream:
        return stream.read(size)
