"""API keys, and who a client is. No message ever shows a key."""

import binascii
import hmac
import re
from collections.abc import Collection, Iterable
from hashlib import sha256
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from api.protocol.errors import ApiError

KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")  # visible ASCII but the comma: what a header can carry


def split_keys(value: object) -> object:
    """Return the keys that commas part; anything but text passes unchanged. Raises ValueError for what is no
    key."""
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
    """Return the keys of a file, one a line; empty lines and those that begin with ``#`` do not count.

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


_bearer = HTTPBearer(scheme_name="bearer", description="Authorization: Bearer KEY", auto_error=False)
_header = APIKeyHeader(name="X-API-Key", scheme_name="header", description="X-API-Key: KEY", auto_error=False)


class RequireKey:
    """Check a request's key, as a dependency of the routers whose routes need one.

    It belongs to the route that was matched and runs before anything else of it: whatever spelling of a path
    leads to the route, leads through this check, and neither the query nor the body has been read by then.
    FastAPI states it in the OpenAPI document, which gives /docs its Authorize button.

    Only digests of the keys are kept, and all of them are compared with what was sent, each in constant time.
    """

    def __init__(self, keys: Iterable[str], *, as_password: bool = False) -> None:
        """Take the keys that are valid. Without any, nobody is let in. ``as_password``: a key may also be the
        password of HTTP's basic authentication, for clients that can send nothing else."""
        self._digests = [sha256(key.encode()).digest() for key in keys]
        self._as_password = as_password

    async def __call__(
        self,
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        header: Annotated[str | None, Security(_header)],
    ) -> None:
        """Raise ApiError 401 unless one of both headers holds a valid key."""
        sent = [header] if header is not None else []
        if self._as_password:
            sent.append(_password(request))
        if bearer is not None:
            sent.append(bearer.credentials)
        if not self._known(sent):
            raise ApiError(
                401,
                "unauthorized",
                "This service asks for a key, and no valid one was sent. "
                "Send it as the header Authorization: Bearer KEY, or X-API-Key: KEY.",
                {"WWW-Authenticate": "Bearer"},
            )

    def _known(self, sent: list[str]) -> bool:
        digests = [sha256(key.encode()).digest() for key in sent]
        same = [hmac.compare_digest(digest, known) for digest in digests for known in self._digests]
        return any(same)  # all were compared, so that the time tells nothing


def _password(request: Request) -> str:
    """Return the password of HTTP's basic authentication (RFC 7617), empty where there is none."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return binascii.a2b_base64(encoded.strip(), strict_mode=True).decode().partition(":")[2]
    except ValueError:  # of base64 and of UTF-8
        return ""


def client_of(request: Request, keys: Collection[str]) -> str:
    """Return what all requests of one client have in common: clients share the device.

    With ``keys`` that is the valid key, as a digest; without, the address: one of IPv4, or the /64 of IPv6
    that one customer has for himself. Behind a proxy it is what the proxy says, if the server trusts it
    (FORWARDED_ALLOW_IPS).
    """
    if keys:
        bearer = request.headers.get("authorization", "").partition(" ")[2].strip()
        for key in (bearer, request.headers.get("x-api-key", "").strip(), _password(request)):
            if key in keys:
                return sha256(key.encode()).hexdigest()
    host = request.client.host if request.client is not None else ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:  # a Unix socket has none
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((address, 64), strict=False))
    return str(address)
