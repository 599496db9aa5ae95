"""Pictures are fetched from public addresses only, within limits of size and time."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, ip_address

import orjson
import pytest
import trustme
from fastapi import Request

from api.frontend.uploads.body import Upload, UploadLimits, Uploads, check_headers
from api.frontend.uploads.reading import read_uploads
from api.frontend.uploads.remote import Address, Fetcher, TrustedHost, is_public
from api.protocol.errors import ApiError

HOME, ELSEWHERE = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")
IMAGE = bytes(range(256))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n" + IMAGE


def redirect(location: str, *headers: str) -> bytes:
    lines = ["HTTP/1.1 302 Found", f"Location: {location}", "Content-Length: 0", *headers, "", ""]
    return "\r\n".join(lines).encode()


class Server:
    """What a loopback server answers by path ({port} stands for its port), and the requests it got."""

    def __init__(self, answers: dict[str, bytes], *, stays: bool = False) -> None:
        self.answers = answers
        self.stays = stays  # open after its answer, saying nothing more
        self.requests: list[str] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            answer = self.answers[request.split()[1]]
            writer.write(answer.replace(b"{port}", str(self.port).encode()))
            await writer.drain()
            while self.stays and await reader.read(100):
                pass
        finally:
            writer.close()


def fetch(
    server: Server,
    url: str,
    *,
    max_bytes: int = 256,
    timeout_seconds: float = 30,
    allowed: Callable[[Address], bool] = lambda address: address == HOME,
    resolve: Callable[[str, int], Awaitable[Sequence[Address]]] | None = None,
    server_tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
    trusted: str | None = None,
    trusted_only: bool = False,
    credentials: Sequence[tuple[bytes, bytes]] = (),
) -> Upload | tuple[int, str]:
    """What comes from an address of that server, or the status and the code of its refusal."""

    async def run() -> Upload | tuple[int, str]:
        async with await asyncio.start_server(server.handle, str(HOME), 0, ssl=server_tls) as listening:
            server.port = listening.sockets[0].getsockname()[1]
            fetcher = Fetcher(
                max_bytes,
                timeout_seconds,
                allowed=allowed,
                ports={server.port},
                resolve=resolve,
                ssl_context=client_tls,
                trusted=TrustedHost(trusted.replace("{port}", str(server.port))) if trusted else None,
                trusted_only=trusted_only,
            )
            try:
                return await fetcher.fetch(url.replace("{port}", str(server.port)), credentials=credentials)
            except ApiError as error:
                return error.status, error.code
            finally:
                fetcher.close()

    return asyncio.run(run())


AT_HOME = "http://127.0.0.1:{port}"
FORBIDDEN, FAILED, TOO_LARGE = (403, "url_forbidden"), (502, "url_failed"), (413, "too_many_bytes")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/photos/cat.jpg", "cat.jpg"),
        ("/photos/cat.jpg?width=9", "cat.jpg"),
        ("/photos/", None),
        ("/a%20b.jpg", "a b.jpg"),
    ],
)
def test_a_picture_comes_with_the_name_in_its_address(path: str, name: str | None) -> None:
    server = Server({path: OK})
    assert fetch(server, AT_HOME + path) == Upload(IMAGE, name)
    [request] = server.requests
    assert f"Host: 127.0.0.1:{server.port}\r\n" in request
    assert "Accept-Encoding: identity\r\n" in request


def chunks(size: int) -> bytes:
    chunk = b"40\r\n" + bytes(64) + b"\r\n"
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * (size // 64) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(chunks(256), Upload(bytes(256), "a"), id="in chunks, exactly the limit"),
        pytest.param(chunks(320), TOO_LARGE, id="in chunks, too many"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(256), Upload(bytes(256), "a"), id="until it closes"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(257), TOO_LARGE, id="until it closes, too many"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 257\r\n\r\n", TOO_LARGE, id="its length says so"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\nshort", FAILED, id="cut off"),
        pytest.param(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", FAILED, id="not there"),
        pytest.param(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n", FAILED, id="a part"),
        pytest.param(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", FAILED, id="a redirect to nowhere"),
        pytest.param(
            OK.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1),
            FAILED,
            id="compressed once more",
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", FAILED, id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + bytes(b"x" * 200_000), FAILED, id="endless headers"),
        pytest.param(b"", FAILED, id="nothing"),
    ],
)
def test_what_becomes_of_each_answer_of_a_server(answer: bytes, expected: object) -> None:
    assert fetch(Server({"/a": answer}), f"{AT_HOME}/a") == expected


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\nsome"], ids=["silence", "then silence"])
def test_it_does_not_wait_for_ever(answer: bytes) -> None:
    server = Server({"/a": answer}, stays=True)
    assert fetch(server, f"{AT_HOME}/a", timeout_seconds=0.2) == FAILED
    assert server.requests, "it was connected"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("file:///etc/passwd", id="a file"),
        pytest.param("ftp://127.0.0.1:{port}/a", id="another protocol"),
        pytest.param("//127.0.0.1:{port}/a", id="no protocol"),
        pytest.param("cat.jpg", id="no address"),
        pytest.param("", id="nothing"),
        pytest.param("http:///a", id="no host"),
        pytest.param("http://user@127.0.0.1:{port}/a", id="a user"),
        pytest.param("http://user:word@127.0.0.1:{port}/a", id="a user and a password"),
        pytest.param("http://example.com\\@127.0.0.1:{port}/a", id="a host that others read as a user"),
        pytest.param("http://127.0.0.1:99999/a", id="no port"),
        pytest.param("http://127.0.0.1:22/a", id="a port that is not allowed"),
        pytest.param("http://127.0.0.1/a", id="the usual port, which is not allowed here"),
        pytest.param("http://127.0.0.1:0/a", id="port zero"),
        pytest.param("http://127.0.0.1:{port}/a\r\nX: y", id="a header smuggled in"),
        pytest.param("http://①②⑦.⓪.⓪.①:{port}/a", id="digits that are none"),
        pytest.param("http://127.0.0.2:{port}/a", id="a host that is not allowed"),
    ],
)
def test_addresses_that_are_not_fetched(url: str) -> None:
    server = Server({"/a": OK})
    assert fetch(server, url) == FORBIDDEN
    assert not server.requests


DISABLED = (403, "url_disabled")


@pytest.mark.parametrize(
    ("url", "trusted", "only", "expected"),
    [
        pytest.param(f"{AT_HOME}/a", AT_HOME, True, Upload(IMAGE, "a"), id="the host itself"),
        pytest.param("HTTP://127.0.0.1:{port}/a", AT_HOME, True, Upload(IMAGE, "a"), id="in capitals"),
        pytest.param("http://LOCALHOST:{port}/a", "http://localhost:{port}", True, Upload(IMAGE, "a"),
                     id="a name in capitals"),
        pytest.param(f"{AT_HOME}/a", None, False, FORBIDDEN, id="no host is trusted"),
        pytest.param(f"{AT_HOME}/a", "http://localhost:{port}", False, FORBIDDEN, id="by another name"),
        pytest.param(f"{AT_HOME}/a", "http://127.0.0.1:1", False, FORBIDDEN, id="another port"),
        pytest.param(f"{AT_HOME}/a", "https://127.0.0.1:{port}", False, FORBIDDEN, id="another scheme"),
        pytest.param(f"{AT_HOME}/a", "http://127.0.0.1:1", True, DISABLED, id="that one alone"),
        pytest.param("http://x@127.0.0.1:{port}/a", AT_HOME, True, FORBIDDEN, id="a user"),
        pytest.param(f"{AT_HOME}/elsewhere", AT_HOME, False, FORBIDDEN, id="it redirects elsewhere"),
        pytest.param(f"{AT_HOME}/elsewhere", AT_HOME, True, DISABLED, id="elsewhere, that one alone"),
        pytest.param(f"{AT_HOME}/here", AT_HOME, True, Upload(IMAGE, "a"), id="it redirects to itself"),
    ],
)  # fmt: skip
def test_a_trusted_host_need_not_be_public(
    url: str, trusted: str | None, only: bool, expected: object
) -> None:
    server = Server({"/a": OK, "/here": redirect("/a"), "/elsewhere": redirect("http://localhost:{port}/a")})
    assert fetch(server, url, allowed=is_public, trusted=trusted, trusted_only=only) == expected


def test_only_the_trusted_host_is_shown_the_credentials() -> None:
    server = Server({"/a": OK, "/b": redirect("http://localhost:{port}/a")})
    credentials = [(b"Authorization", b"Token secret")]
    assert fetch(server, f"{AT_HOME}/b", trusted=AT_HOME, credentials=credentials) == Upload(IMAGE, "a")
    assert ["Token secret" in request for request in server.requests] == [True, False]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001"),
        *(
            "0.0.0.0",
            "0",
            "localhost",
            "localhost.",
            "LOCALHOST",
            "169.254.169.254",
            "0xa9fea9fe",
            "10.0.0.1",
        ),
        *("172.16.0.1", "192.168.0.1", "100.64.0.1", "224.0.0.1", "255.255.255.255"),
        *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
        *(
            "[64:ff9b::7f00:1]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:7f00:1::]",
            "[fd00::1]",
            "[fe80::1]",
            "[ff02::1]",
        ),
    ],
)
def test_private_hosts_in_all_spellings(host: str) -> None:
    """By the rule that a service has, which is public addresses only."""
    server = Server({"/a": OK})
    refused = fetch(server, f"http://{host}:{{port}}/a", allowed=is_public)
    assert not server.requests
    assert refused == FORBIDDEN or (refused == FAILED and host == "localhost."), "or a name unknown here"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *((address, True) for address in ("8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111")),
        *((address, True) for address in ("::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::")),
        *((address, False) for address in ("127.0.0.1", "10.1.2.3", "100.64.0.1", "169.254.169.254")),
        *((address, False) for address in ("192.0.0.8", "192.0.2.1", "198.18.0.1", "192.88.99.1")),
        *((address, False) for address in ("0.0.0.0", "224.0.0.1", "239.1.1.1", "240.0.0.1")),
        *((address, False) for address in ("::", "::1", "fe80::1%2", "fc00::1", "fec0::1", "ff0e::1")),
        *((address, False) for address in ("::8.8.8.8", "2001::1", "2001:db8::1", "64:ff9b:1::808:808")),
        *((address, False) for address in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "4000::1")),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def answering(*answers: Sequence[Address]) -> Callable[[str, int], Awaitable[Sequence[Address]]]:
    """A resolver that gives these answers one after another; once more would be an error."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[Address]:
        return left.pop(0)

    return resolve


async def nowhere(host: str, port: int) -> Sequence[Address]:
    raise OSError("no such name")


@pytest.mark.parametrize(
    ("resolve", "expected"),
    [
        pytest.param(answering([HOME]), Upload(IMAGE, "a"), id="one address"),
        pytest.param(answering([HOME, ELSEWHERE]), FORBIDDEN, id="one of two is not allowed"),
        pytest.param(answering([ELSEWHERE, HOME]), FORBIDDEN, id="the first of two is not allowed"),
        pytest.param(answering([HOME], [ELSEWHERE]), Upload(IMAGE, "a"), id="it would answer differently"),
        pytest.param(answering([]), FAILED, id="no address"),
        pytest.param(nowhere, FAILED, id="no such name"),
    ],
)
def test_a_name_is_resolved_once_and_all_its_addresses_must_be_allowed(
    resolve: Callable[[str, int], Awaitable[Sequence[Address]]], expected: object
) -> None:
    assert fetch(Server({"/a": OK}), "http://pictures.test:{port}/a", resolve=resolve) == expected


def test_the_next_address_is_tried_where_nobody_listens() -> None:
    got = fetch(
        Server({"/a": OK}),
        "http://pictures.test:{port}/a",
        resolve=answering([ELSEWHERE, HOME]),
        allowed=lambda address: address.is_loopback,
    )
    assert got == Upload(IMAGE, "a")


@pytest.mark.parametrize(
    ("answers", "expected", "visited"),
    [
        pytest.param({"/a": redirect("/b"), "/b": OK}, Upload(IMAGE, "b"), 2, id="to another path"),
        pytest.param({"/a": redirect(f"{AT_HOME}/b"), "/b": OK}, Upload(IMAGE, "b"), 2, id="absolute"),
        pytest.param(
            {"/a": redirect("/b"), "/b": redirect("/c"), "/c": redirect("/d"), "/d": OK},
            Upload(IMAGE, "d"),
            4,
            id="three times",
        ),
        pytest.param({"/a": redirect("/a")}, FAILED, 4, id="in circles"),
        pytest.param({"/a": redirect("http://127.0.0.2:{port}/b")}, FORBIDDEN, 1, id="to a private host"),
        pytest.param({"/a": redirect("//127.0.0.2:{port}/b")}, FORBIDDEN, 1, id="to one, in short"),
        pytest.param({"/a": redirect("http://2130706434:{port}/b")}, FORBIDDEN, 1, id="to one in decimal"),
        pytest.param({"/a": redirect("http://127.0.0.1:22/b")}, FORBIDDEN, 1, id="to another port"),
        pytest.param({"/a": redirect("file:///etc/passwd")}, FORBIDDEN, 1, id="to a file"),
        pytest.param({"/a": redirect("http://u:p@127.0.0.1:{port}/b")}, FORBIDDEN, 1, id="to a password"),
    ],
)
def test_redirects(answers: dict[str, bytes], expected: object, visited: int) -> None:
    server = Server(answers)
    assert fetch(server, f"{AT_HOME}/a") == expected
    assert len(server.requests) == visited


def test_a_name_is_checked_again_at_a_redirect() -> None:
    server = Server({"/a": redirect("/b"), "/b": OK})
    resolve = answering([HOME], [ELSEWHERE])
    assert fetch(server, "http://pictures.test:{port}/a", resolve=resolve) == FORBIDDEN
    assert len(server.requests) == 1


def test_neither_cookies_nor_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.3:9")
    server = Server({"/a": redirect("/b", "Set-Cookie: a=b"), "/b": OK})
    assert fetch(server, f"{AT_HOME}/a") == Upload(IMAGE, "b")
    assert not any("cookie" in request.lower() for request in server.requests)


@pytest.mark.parametrize(
    ("host", "trusted", "expected"),
    [
        pytest.param("pictures.test", True, Upload(IMAGE, "a"), id="its own name"),
        pytest.param("other.test", True, FAILED, id="another name"),
        pytest.param("127.0.0.1", True, FAILED, id="its bare address"),
        pytest.param("pictures.test", False, FAILED, id="an issuer nobody knows"),
    ],
)
def test_https_verifies_the_name(host: str, trusted: bool, expected: object) -> None:
    """Though the connection goes to an address."""
    issuer = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer.issue_cert("pictures.test").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    if trusted:
        issuer.configure_trust(client_tls)
    got = fetch(
        Server({"/a": OK}),
        f"https://{host}:{{port}}/a",
        resolve=answering([HOME]),
        server_tls=server_tls,
        client_tls=client_tls,
    )
    assert got == expected


def test_a_request_that_names_an_address() -> None:
    """From the body to the picture."""
    server = Server({"/photos/cat.jpg": OK})

    async def run() -> Uploads:
        async with await asyncio.start_server(server.handle, str(HOME), 0) as listening:
            server.port = listening.sockets[0].getsockname()[1]
            fetcher = Fetcher(256, allowed=lambda address: address == HOME, ports={server.port})
            body = orjson.dumps({"url": f"http://127.0.0.1:{server.port}/photos/cat.jpg"})

            async def receive() -> dict[str, object]:
                return {"type": "http.request", "body": body, "more_body": False}

            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
            try:
                return await read_uploads(request, check_headers(request, UploadLimits(256, 1)), fetcher)
            finally:
                fetcher.close()

    assert asyncio.run(run()) == Uploads((Upload(IMAGE, "cat.jpg"),), many=False)
