"""Where the service listens."""

import socket

import pytest

from api.frontend.connections.listening import CannotListen, listening_sockets, shown


def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [
        pytest.param("127.0.0.1", True, False, id="one address"),
        pytest.param("0.0.0.0", True, False, id="all of IPv4"),
        pytest.param("::", True, True, id="all of both"),
        pytest.param("", True, True, id="nothing: all of both"),
        pytest.param("*", True, True, id="all of both, in another way"),
        pytest.param("::1", False, True, id="the loopback of IPv6"),
        pytest.param("[::1]", False, True, id="in brackets, as in an address"),
    ],
)
def test_hosts(host: str, ipv4: bool, ipv6: bool) -> None:
    if not has_ipv6() and not ipv4:
        pytest.skip("no IPv6 here")
    sockets = listening_sockets(host, 0)
    port = sockets[0].getsockname()[1]
    try:
        assert reaches("127.0.0.1", port) == ipv4
        if has_ipv6():
            assert reaches("::1", port) == ipv6
    finally:
        for one in sockets:
            one.close()


def test_all_addresses_of_a_name_share_a_port() -> None:
    sockets = listening_sockets("localhost", 0)
    assert len({one.getsockname()[1] for one in sockets}) == 1
    assert reaches("localhost", sockets[0].getsockname()[1])
    for one in sockets:
        one.close()


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        pytest.param("127.0.0.1", None, "Address already in use", id="taken"),
        pytest.param("203.0.113.7", 0, "Cannot assign requested address", id="another machine's"),
        pytest.param("no such host", 0, "", id="no name"),
    ],
)
def test_what_cannot_be_listened_on(host: str, port: int | None, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(CannotListen, match=reason) as refused:
            listening_sockets(host, taken.getsockname()[1] if port is None else port)
        assert str(refused.value).startswith(f"cannot listen on {host}, port ")


def test_an_address_as_it_is_shown() -> None:
    [listening] = listening_sockets("127.0.0.1", 0)
    with listening:
        assert shown(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"
