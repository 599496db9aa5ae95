"""Who a client is, where clients share something: whoever has the same key, or else the same address."""

from collections.abc import Collection
from hashlib import sha256
from ipaddress import IPv6Address, IPv6Network, ip_address

from fastapi import Request


def client_of(request: Request, keys: Collection[str]) -> str:
    """Return what all requests of one client have in common.

    With ``keys`` that is the valid key, as a digest; without, the address: one of IPv4, or the /64 of IPv6
    that one customer has for himself. Behind a proxy it is what the proxy says, if the server trusts it
    (FORWARDED_ALLOW_IPS).
    """
    if keys:
        bearer = request.headers.get("authorization", "").partition(" ")[2].strip()
        for key in (bearer, request.headers.get("x-api-key", "").strip()):
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
