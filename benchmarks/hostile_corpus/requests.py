"""Hostile requests: whole messages as bytes, for what no HTTP library would send."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.client import form, request

from hostile_corpus.containers import good_images

CLOSED = "closed"
"""The server may also hang up: what came is no HTTP."""
SLACK = frozenset({"400", "408", "413", "415", "422"})


@dataclass(frozen=True)
class HostileRequest:
    """A message and the outcomes (statuses as text, or ``closed``) that are right for it."""

    name: str
    message: bytes
    outcomes: frozenset[str]
    is_http: bool = True
    """Whether the application sees it at all: the server's own refusals are not in the service's shape."""


def requests() -> Iterator[HostileRequest]:
    """Yield all of them."""
    yield from _types()
    yield from _forms()
    yield from _json()
    yield from _queries()
    yield from _headers()
    yield from _raw()


PATH = "/classify"
"""Where most of them go: one crop is the least work."""
IMAGE = good_images()["jpeg:baseline"]


def _one(name: str, message: bytes, *outcomes: str, is_http: bool = True) -> HostileRequest:
    return HostileRequest(name, message, frozenset(outcomes) or SLACK, is_http)


def _types() -> Iterator[HostileRequest]:
    for kind in ("text/plain", "text/html", "application/pdf", "*/*", "image", "a" * 5000):
        yield _one(f"content type {kind[:20]!r}", request(PATH, IMAGE, kind), "415")
    for kind in ("image/gif", "image/*", "", ";", "image/jpeg/x", "application/octet-stream"):
        yield _one(f"content type {kind!r}, the content decides", request(PATH, IMAGE, kind), "200")
    for kind in ("IMAGE/JPEG", "image/jpeg; charset=utf-8", "image/jpeg;;;=;", " image/jpeg "):
        yield _one(f"content type {kind!r}", request(PATH, IMAGE, kind), "200")
    yield _one("another picture's type", request(PATH, IMAGE, "image/png"), "200", "415", "422")
    yield _one("a form that says it is a picture", request(PATH, form({"a": IMAGE})[0]), "415")
    yield _one("no body", request(PATH), "400", "411")


def _forms() -> Iterator[HostileRequest]:
    kind = "multipart/form-data; boundary=b"

    def part(head: str, data: bytes = b"x") -> bytes:
        return b"--b\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"

    file = part('Content-Disposition: form-data; name="file"; filename="a.jpg"', IMAGE)
    end = b"--b--\r\n"
    bodies = {
        "5,000 fields": part('Content-Disposition: form-data; name="a"') * 5000 + end,
        "5,000 files": part('Content-Disposition: form-data; name="file"; filename="a"') * 5000 + end,
        "100,000 empty lines": b"\r\n" * 100_000,
        "a part with 5,000 headers": part("A: b\r\n" * 5000 + 'Content-Disposition: form-data; name="file"')
        + end,
        "a header of 100 kB": part("A: " + "b" * 100_000) + end,
        "a part without a name": part("Content-Disposition: form-data") + end,
        "a part without headers": b"--b\r\n\r\nx\r\n" + end,
        "no end": file,
        "nothing but the end": end,
        "nothing": b"\r\n",
        "another boundary": file.replace(b"--b", b"--c"),
        "a form in a form": part('Content-Disposition: form-data; name="file"', file) + end,
        "an unknown field": file + part('Content-Disposition: form-data; name="threshold"') + end,
        "an empty file": part('Content-Disposition: form-data; name="file"; filename="a"', b"") + end,
        "zeros": bytes(5000),
        "noise for a boundary": b"--b" * 20_000,
    }
    for name, body in bodies.items():
        yield _one(
            f"form: {name}", request(PATH, body, kind), "200" if name == "5,000 files" else "400", *SLACK
        )
    for filename in (
        "../../etc/passwd",
        "a\\r\\nb",
        "x" * 60_000,
        "\0",
        "‮gpj.exe",
        "<script>",
        '\\"',
        "日本",
    ):
        body = part(f'Content-Disposition: form-data; name="file"; filename="{filename}"', IMAGE) + end
        yield _one(f"form: a file called {filename[:20]!r}", request(PATH, body, kind), "200", "400", "413")
    for boundary in ("", '""', "b" * 10_000, "ü", '"b', "b; boundary=c", " "):
        message = request(PATH, file + end, f"multipart/form-data; boundary={boundary}")
        yield _one(f"form: boundary {boundary[:20]!r}", message, "200", *SLACK)
    yield _one("form: no boundary", request(PATH, file + end, "multipart/form-data"), "400")
    yield _one("form: urlencoded", request(PATH, b"file=a", "application/x-www-form-urlencoded"), "415")


def _json() -> Iterator[HostileRequest]:
    image = base64.b64encode(IMAGE).decode()
    bodies: dict[str, bytes] = {
        "100,000 lists in each other": b"[" * 100_000,
        "100,000 objects in each other": b'{"image":' * 100_000,
        "a number for a picture": b'{"image": 5}',
        "null": b"null",
        "nothing known": b'{"img": "x"}',
        "both ways": json.dumps({"image": image, "images": [image]}).encode(),
        "no pictures": b'{"images": []}',
        "10,000 pictures": json.dumps({"images": [image] * 10_000}).encode(),
        "20 broken pictures": json.dumps({"images": ["AAAA"] * 20}).encode(),
        "a list of lists": b'{"images": [[["x"]]]}',
        "NaN": b'{"image": NaN}',
        "an endless number": b'{"image": 1' + b"0" * 100_000 + b"}",
        "no UTF-8": b'{"image": "\xff\xfe"}',
        "UTF-16": json.dumps({"image": image}).encode("utf-16"),
        "cut off": b'{"image": "' + image.encode()[:50],
        "no base64": b'{"image": "%%%%"}',
        "base64 of nothing": b'{"image": ""}',
        "40 MB of base64": b'{"image": "' + b"A" * (40 << 20) + b'"}',
        "half a surrogate": b'{"image": "\\ud800"}',
        "a key of a megabyte": b'{"' + b"k" * (1 << 20) + b'": 1}',
        "100,000 keys": json.dumps({f"k{number}": 1 for number in range(100_000)}).encode(),
        "the same key twice": b'{"image": "AAAA", "image": "BBBB"}',
        "a proto key": json.dumps({"image": image, "__proto__": {}}).encode(),
    }
    for name, body in bodies.items():
        yield _one(f"json: {name}", request(PATH, body, "application/json"), "400", "413", "415", "422")
    for url in (
        "file:///etc/passwd",
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://2130706433/",
        "gopher://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "x" * 100_000,
        "http://\u0000/",
        "",
    ):
        body = json.dumps({"url": url}).encode()
        yield _one(
            f"json: url {url[:30]!r}",
            request(PATH, body, "application/json"),
            "400",
            "403",
            "415",
            "422",
        )


def _queries() -> Iterator[HostileRequest]:
    for query in (
        "score_threshold=nan",
        "score_threshold=inf",
        "score_threshold=1e400",
        "score_threshold=-0.1",
        "score_threshold=",
        "score_threshold=0.5;",
        "max_detections=0",
        "max_detections=1e9",
        "max_detections=" + "9" * 5000,
        "max_detections=5.5",
        "profile=slow",
        "profile=FAST",
        "profile=%00",
        "format=xml",
        "threshold=0.5",
        "score_threshold[]=0.5",
        "%FF%FE=1",
        "classes=" + ",".join(["zebra"] * 2000) + ",nosuchclass",
        "classes=" + "," * 5000 + "x" * 100,
        "model=../../etc/passwd",
        "model=",
    ):
        allowed = ("404", "422") if query.startswith("model") else ("422",)
        yield _one(f"query: {query[:30]}", request(f"/detect?{query}", IMAGE), *allowed)
    for query in ("score_threshold=0.1&score_threshold=0.2", "&&&", "?", "score_threshold=0x1"):
        yield _one(f"query: {query[:30]}", request(f"/detect?{query}", IMAGE), "200", "422")
    for query in ("top=0", "top=99999999999", "crops=2", "crops=-1", "crops=144.5"):
        yield _one(f"query: {query}", request(f"/classify?{query}", IMAGE), "422")
    yield _one("query of 60 kB", request(f"/detect?{'a=b&' * 15_000}", IMAGE), "414", "422", "400", "431")


def _headers() -> Iterator[HostileRequest]:
    for value in ("0", "-1", "abc", "1e99", "9" * 400, "", "nan", "0.5", "+5"):
        message = request(PATH, IMAGE, headers={"X-Timeout-Ms": value})
        yield _one(f"X-Timeout-Ms: {value[:9]!r}", message, "200", "422", "504")
    for value in ("a b", "x" * 5000, "\x1b[2J", "../../a", "", "ü", "%0d%0aSet-Cookie: a=b"):
        message = request(PATH, IMAGE, headers={"X-Request-Id": value})
        plain = value.isprintable()  # the server itself refuses what is not
        yield _one(f"X-Request-Id: {value[:9]!r}", message, "200", "400", is_http=plain)
    for name, value in (
        ("Authorization", "Bearer " + "x" * 5000),
        ("Authorization", "Basic \xff"),
        ("X-API-Key", ""),
        ("Accept", "image/" + "x" * 3000),
        ("Accept-Encoding", "gzip;q=nan, *;q=-1"),
        ("Content-Encoding", "gzip"),
        ("Transfer-Encoding", "identity"),
        ("X-Forwarded-For", "127.0.0.1, " * 300),
        ("Range", "bytes=0-0,-1"),
        ("Origin", "null"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Expect", "the-unexpected"),
        ("Cookie", "a=b; " * 500),
    ):
        message = request(PATH, IMAGE, headers={name: value})
        yield _one(
            f"{name}: {value[:12]!r}", message, "200", "400", "415", "417", "501", CLOSED, is_http=False
        )
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND"):
        yield _one(f"{method} {PATH}", request(PATH, method=method), "405", "400", CLOSED, is_http=False)
    for path in (
        "/../../etc/passwd",
        "//classify",
        "/classify/",
        "/%00",
        "/classify%2f..",
        "/" + "a" * 4000,
        "/.git/config",
    ):
        yield _one(f"POST {path[:20]}", request(path, IMAGE), "404", "400")


def _raw() -> Iterator[HostileRequest]:
    """Yield what is no HTTP, or two readings of it."""
    length = f"Content-Length: {len(IMAGE)}\r\n".encode()
    head = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n"
    messages = {
        "two lengths": head + length + b"Content-Length: 5\r\n\r\n" + IMAGE,
        "a length twice": head + length * 2 + b"\r\n" + IMAGE,
        "a length and chunks": head + length + chunked + b"\r\n0\r\n\r\n",
        "a negative length": head + b"Content-Length: -5\r\n\r\n" + IMAGE,
        "a length of letters": head + b"Content-Length: abc\r\n\r\n" + IMAGE,
        "a length with a sign": head + b"Content-Length: +5\r\n\r\n" + IMAGE,
        "an endless length": head + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n" + IMAGE,
        "chunks of no number": head + chunked + b"\r\nxyz\r\nabc\r\n0\r\n\r\n",
        "a chunk of 2^64 bytes": head + chunked + b"\r\nffffffffffffffff\r\nabc",
        "a chunk extension of 100 kB": head
        + chunked
        + b"\r\n5;"
        + b"a" * 100_000
        + b"\r\nabcde\r\n0\r\n\r\n",
        "10,000 chunks of a byte": head + chunked + b"\r\n" + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n",
        "chunks twice": head + chunked * 2 + b"\r\n0\r\n\r\n",
        "no host": b"POST /classify HTTP/1.1\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + IMAGE,
        "a space before the colon": head + b"Content-Length : 5\r\n\r\nabcde",
        "a folded header": head + b"X-A: b\r\n c\r\n" + length + b"\r\n" + IMAGE,
        "a zero in a header": head + b"X-A: b\0c\r\n" + length + b"\r\n" + IMAGE,
        "a bare line feed": head.replace(b"\r\n", b"\n") + length + b"\n" + IMAGE,
        "HTTP/1.0": head.replace(b"1.1", b"1.0") + length + b"\r\n" + IMAGE,
        "HTTP/0.9": b"GET /\r\n\r\n",
        "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        "HTTP/9.9": head.replace(b"1.1", b"9.9") + length + b"\r\n" + IMAGE,
        "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
        "noise": bytes(range(256)) * 10,
        "a method in small letters": head.replace(b"POST", b"post") + length + b"\r\n" + IMAGE,
        "a header of a megabyte": head + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n",
        "20,000 headers": head + b"X-A: b\r\n" * 20_000 + b"\r\n",
        "a path of a megabyte": b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "a whole address": head.replace(b"/classify", b"http://example.com/classify")
        + length
        + b"\r\n"
        + IMAGE,
        "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "empty lines first": b"\r\n\r\n" + head + length + b"\r\n" + IMAGE,
    }
    fine = {
        "200",
        "400",
        "404",
        "405",
        "408",
        "411",
        "413",
        "414",
        "415",
        "422",
        "426",
        "431",
        "501",
        "505",
        CLOSED,
    }
    for name, message in messages.items():
        yield _one(f"raw: {name}", message, *fine, is_http=False)
