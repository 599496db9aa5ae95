"""The sockets that the service listens on."""

import errno
import socket
from typing import Any

_EVERYWHERE = ("", "*", "::")
_BACKLOG = 2048
_ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # the machine has no such address, or no IPv6 at all


class CannotListen(Exception):
    """An address or port that cannot be listened on."""


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen at each address of ``host``, all on one port; 0 takes a free one.

    ``::``, ``*`` and an empty host mean every address, of IPv4 and IPv6 alike. Of a name
    all addresses are taken that this machine has.

    Raises CannotListen.
    """
    host = host.strip().removeprefix("[").removesuffix("]")
    try:
        if host in _EVERYWHERE:
            return [_everywhere(port)]
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host or '*'}, port {port}: {_reason(error)}") from error
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in entries):
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(_listening(family, address))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise CannotListen(f"cannot listen on {host}, port {port}: {_reason(error)}") from error
    return sockets


def _everywhere(port: int) -> socket.socket:
    """Return one socket for IPv6 and IPv4; for IPv4 alone where the system has no IPv6."""
    try:
        return _listening(socket.AF_INET6, ("::", port), dual=True)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return _listening(socket.AF_INET, ("0.0.0.0", port))


def _listening(family: int, address: Any, dual: bool = False) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def shown(listening: socket.socket) -> str:
    """Return the address of a socket as one types it into a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
