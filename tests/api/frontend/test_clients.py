"""Who shares a turn."""

import pytest
from fastapi import Request

from api.frontend.auth import client_of

KEYS = frozenset({"one", "two"})


def request_of(host: str | None = None, **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    client = (host, 1) if host is not None else None
    return Request({"type": "http", "headers": raw, "client": client})


@pytest.mark.parametrize(
    ("one", "other", "keys", "same"),
    [
        pytest.param(request_of("10.0.0.1"), request_of("10.0.0.1"), (), True, id="an address"),
        pytest.param(request_of("10.0.0.1"), request_of("10.0.0.2"), (), False, id="two addresses"),
        pytest.param(request_of("2001:db8::1"), request_of("2001:db8::ffff"), (), True, id="a /64"),
        pytest.param(request_of("2001:db8::1"), request_of("2001:db8:0:1::1"), (), False, id="two /64"),
        pytest.param(request_of("::ffff:10.0.0.1"), request_of("10.0.0.1"), (), True, id="mapped IPv4"),
        pytest.param(
            request_of("::ffff:10.0.0.1"), request_of("::ffff:10.0.0.2"), (), False, id="two mapped"
        ),
        pytest.param(request_of("fe80::1%eth0"), request_of("fe80::1"), (), True, id="a zone"),
        pytest.param(request_of(), request_of(), (), True, id="no address: a Unix socket"),
        pytest.param(
            request_of("10.0.0.1", x_api_key="one"),
            request_of("10.0.0.2", authorization="Bearer one"),
            KEYS,
            True,
            id="a key, from anywhere and in either header",
        ),
        pytest.param(
            request_of("10.0.0.1", x_api_key="one"),
            request_of("10.0.0.1", x_api_key="two"),
            KEYS,
            False,
            id="two keys",
        ),
        pytest.param(
            request_of("a", x_api_key="one", authorization="Bearer made-up"),
            request_of("a", x_api_key="one", authorization="Bearer another"),
            KEYS,
            True,
            id="what is no key makes no new client",
        ),
        pytest.param(
            request_of("10.0.0.1", x_api_key="a"),
            request_of("10.0.0.1", x_api_key="b"),
            (),
            True,
            id="without keys nobody has one",
        ),
    ],
)
def test_same_client(one: Request, other: Request, keys: frozenset[str], same: bool) -> None:
    assert (client_of(one, keys) == client_of(other, keys)) == same
