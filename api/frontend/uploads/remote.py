"""Fetching an image from an address that a client names.

A service that fetches what it is told to must not be a way into the network that it stands in (server-side
request forgery).

The name is resolved once, every address it has must be public, and the connection goes to the address that
was checked: a name that answers differently the next time (DNS rebinding) is not asked again. Each redirect
is a new address and passes the same checks.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

import httpcore
import httpx

from api.frontend.uploads.body import Upload
from api.protocol.errors import ApiError

Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the IPv4 address that is reached
_UNICAST = IPv6Network("2000::/3")  # RFC 4291: of all others, none is handed out for the internet
_SPECIAL = (  # protocols' own, among them Teredo; retired 6to4 relays (RFC 7526); documentation (RFC 9637)
    *(IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24")),
    *(IPv6Network("2001::/23"), IPv6Network("3fff::/20")),
)
"""What ``is_global``, depending on the release of Python, calls public and is not."""

Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]
"""From a host and a port to all addresses of the host. Raises OSError where it has none."""

_MAX_REDIRECTS = 3
_MAX_DOWNLOADS = 16  # at once: they are in memory, whatever the bodies of the requests weigh
_MAX_ATTEMPTS = 4  # addresses of a name that are tried
_CONNECT_SECONDS = 3.0  # for each
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = (
    (b"User-Agent", b"googlenet-detector"),
    (b"Accept", b"image/*, */*;q=0.1"),  # Label Studio refuses who wants images alone
    (b"Accept-Encoding", b"identity"),
)


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet: not private, loopback, link-local, multicast
    or reserved, nor an IPv6 address that stands for such an IPv4 address.
    """
    if isinstance(address, IPv6Address):
        embedded = _embedded(address)
        if embedded is not None:
            return is_public(embedded)
        if address not in _UNICAST:
            return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _SPECIAL)
    )


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to an IPv6 address are carried to, where it is that kind."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class TrustedHost:
    """A host that the service was told to fetch from, wherever it is, by its scheme, host and port."""

    origin: str

    def has(self, url: httpx.URL) -> bool:
        """Return whether an address is one of the host's."""
        return _origin(url) == _origin(httpx.URL(self.origin))


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    host = url.raw_host.decode("ascii").strip("[]").lower()
    return url.scheme, host, url.port or _PORTS.get(url.scheme, 0)


class Fetcher:
    """Fetches pictures; one for the life of the service. ``close`` when done."""

    def __init__(
        self,
        max_bytes: int,
        timeout_seconds: float = 10,
        *,
        allowed: Callable[[Address], bool] = is_public,
        ports: Collection[int] = (80, 443),
        resolve: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trusted: TrustedHost | None = None,
        trusted_only: bool = False,
    ) -> None:
        """``timeout_seconds`` are for the whole of one picture, redirects and waiting for a turn included.

        Connections go to ``allowed`` addresses and these ``ports`` only, and to the ``trusted`` host whatever
        its address and port; to no other with ``trusted_only``. No proxy is used, whatever the
        environment says; its SSL_CERT_FILE is, unless there is an ``ssl_context``.
        """
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._ports = frozenset(ports)
        # Threads of their own: names that nobody answers for must not hold up other work in threads.
        self._resolvers = ThreadPoolExecutor(_MAX_DOWNLOADS, thread_name_prefix="resolve")
        self._trusted = trusted
        self._trusted_only = trusted_only
        self._backend = _CheckedBackend(resolve or self._resolve, allowed)
        self._trusted_backend = _CheckedBackend(resolve or self._resolve, lambda address: True)
        self._ssl_context = ssl_context or httpx.create_ssl_context()
        self._turns = asyncio.Semaphore(_MAX_DOWNLOADS)

    async def fetch(
        self,
        url: str,
        receive: Callable[[int], None] = lambda size: None,
        credentials: Sequence[tuple[bytes, bytes]] = (),
    ) -> Upload:
        """Return the image at an address, named after the last part of its path; ``receive`` is told of the
        bytes. ``credentials`` are headers that the trusted host alone is sent.

        Raises ApiError: 403 ``url_forbidden`` for an address that is none of http(s), of another port, or of
        a host that is not public, ``url_disabled`` where the trusted host alone is asked; 413
        ``too_many_bytes``; 502 ``url_failed`` for everything that goes wrong on the way.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds), self._turns:
                return await self._follow(self._checked(url), receive, credentials)
        except TimeoutError as error:
            raise _failed(f"it took longer than {self._timeout_seconds:g} seconds") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise _failed("its certificate is not valid for its host") from error
            raise _failed(f"the connection failed ({type(error).__name__})") from error

    def close(self) -> None:
        """End the threads that resolve names."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _follow(
        self,
        url: httpx.URL,
        receive: Callable[[int], None],
        credentials: Sequence[tuple[bytes, bytes]],
    ) -> Upload:
        for _ in range(_MAX_REDIRECTS + 1):
            trusted = self._is_trusted(url)
            asked = [(b"Host", url.netloc), *_HEADERS, *(credentials if trusted else ())]
            target = httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            )
            async with (
                httpcore.AsyncConnectionPool(
                    self._ssl_context,
                    max_keepalive_connections=0,
                    network_backend=self._trusted_backend if trusted else self._backend,
                ) as connections,
                connections.stream("GET", target, headers=asked) as response,
            ):
                headers = httpx.Headers(response.headers)
                if response.status not in _REDIRECTS or "location" not in headers:
                    data = await self._read(response, headers, receive)
                    return Upload(data, unquote(url.path.rpartition("/")[2])[:255] or None)
            url = self._checked(headers["location"], url)
        raise _failed(f"it redirects more than {_MAX_REDIRECTS} times")

    def _is_trusted(self, url: httpx.URL) -> bool:
        return self._trusted is not None and self._trusted.has(url)

    def _checked(self, text: str, base: httpx.URL | None = None) -> httpx.URL:
        """Return the address, seen from ``base``, if its form may be fetched. Raises ApiError 403."""
        try:
            url = httpx.URL(text) if base is None else base.join(text)
        except (httpx.InvalidURL, ValueError) as error:  # also what IDNA cannot express
            raise _forbidden("it is no valid address") from error
        if url.scheme not in ("http", "https") or not url.raw_host:
            raise _forbidden("it does not begin with http:// or https:// and a host")
        if url.userinfo:
            raise _forbidden("it has a user name or a password")
        if self._is_trusted(url):
            return url
        if self._trusted_only:
            raise url_disabled()
        port = _PORTS[url.scheme] if url.port is None else url.port
        if port not in self._ports:
            raise _forbidden(f"port {port} is none of {', '.join(map(str, sorted(self._ports)))}")
        return url

    async def _read(
        self, response: httpcore.Response, headers: httpx.Headers, receive: Callable[[int], None]
    ) -> bytes:
        if response.status != 200:
            raise _failed(f"it answered with status {response.status}")
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _failed("it sent the picture compressed once more, which was not asked for")
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._max_bytes):
            raise self._too_many_bytes()
        data = bytearray()
        async for chunk in response.aiter_stream():
            if len(data) + len(chunk) > self._max_bytes:
                raise self._too_many_bytes()
            receive(len(chunk))
            data += chunk
        return bytes(data)

    def _too_many_bytes(self) -> ApiError:
        return ApiError(
            413,
            "too_many_bytes",
            f"The address gave more than the {self._max_bytes:,} bytes allowed. Name a smaller picture.",
        )

    async def _resolve(self, host: str, port: int) -> Sequence[Address]:
        entries = await asyncio.get_running_loop().run_in_executor(
            self._resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [ip_address(entry[4][0]) for entry in entries]


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to addresses that were resolved and checked, and to no others."""

    def __init__(self, resolve: Resolver, allowed: Callable[[Address], bool]) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolve(host.strip("[]"), port)
        except (OSError, UnicodeError) as error:
            raise _failed("its host has no address") from error
        if not addresses:
            raise _failed("its host has no address")
        if not all(map(self._allowed, addresses)):
            raise _forbidden("its host is not on the public internet")
        failure: Exception | None = None
        for address in addresses[:_MAX_ATTEMPTS]:
            try:
                return await self._network.connect_tcp(  # a literal: nothing is left to resolve
                    str(address), port, _CONNECT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise _failed("nobody accepts the connection") from failure


def url_disabled() -> ApiError:
    """Return the refusal of an address where none is fetched."""
    return ApiError(403, "url_disabled", "This service fetches no addresses. Send the picture itself.")


def _forbidden(why: str) -> ApiError:
    return ApiError(403, "url_forbidden", f"The address is not fetched: {why}. Send the picture itself.")


def _failed(why: str) -> ApiError:
    return ApiError(502, "url_failed", f"The address gave no picture: {why}. Send the picture itself.")
