"""Bodies are read within their limits, and forms are taken apart."""

import asyncio

import pytest
from fastapi import Request

from api.body import Upload, extract, read_body
from api.errors import ApiError
from api.multipart import parse_form

FORM = "multipart/form-data; boundary=xx"


def read(chunks: list[bytes], headers: dict[str, str], max_bytes: int = 1000) -> tuple[bytes | int, int]:
    """The body or the status of its refusal, and how many chunks were taken from the sender."""
    taken = 0

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": chunks[taken - 1], "more_body": taken < len(chunks)}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "headers": raw}, receive)
    try:
        return asyncio.run(read_body(request, max_bytes)), taken
    except ApiError as error:
        return error.status, taken


@pytest.mark.parametrize(
    ("chunks", "headers", "expected", "taken"),
    [
        pytest.param([b"ab", b"c"], {"content-length": "3"}, b"abc", 2, id="in chunks"),
        pytest.param([bytes(1000)], {"content-length": "1000"}, bytes(1000), 1, id="exactly the limit"),
        pytest.param([bytes(1001)], {"content-length": "1001"}, 413, 0, id="length says so: nothing is read"),
        pytest.param(
            [bytes(600)] * 9, {"transfer-encoding": "chunked"}, 413, 2, id="no length: stops at the limit"
        ),
        pytest.param(
            [bytes(600)] * 9, {"content-length": "10"}, 413, 2, id="a length that lies is no way around"
        ),
        pytest.param([b"x"], {"content-length": "many"}, b"x", 1, id="a length that is no number"),
        pytest.param([b""], {"content-length": "0"}, 400, 0, id="no body"),
        pytest.param([b""], {}, 400, 0, id="neither length nor chunks: no body"),
    ],
)
def test_reading(chunks: list[bytes], headers: dict[str, str], expected: bytes | int, taken: int) -> None:
    assert read(chunks, {"content-type": "image/png"} | headers) == (expected, taken)


def test_a_form_may_be_larger_than_its_picture() -> None:
    framed = {"content-type": FORM, "content-length": "1500"}
    assert read([bytes(1500)], framed) == (bytes(1500), 1)


def part(disposition: str, data: bytes, newline: bytes = b"\r\n") -> bytes:
    head = f"Content-Disposition: form-data; {disposition}".encode()
    return newline.join([b"--xx", head, b"", data, b""])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(part('name="file"; filename="a.jpg"', b"123"), Upload(b"123", "a.jpg"), id="a file"),
        pytest.param(part('name="file"', b"123"), Upload(b"123", None), id="a field without a file name"),
        pytest.param(part('name="file"; filename=""', b"1"), Upload(b"1", ""), id="an empty file name"),
        pytest.param(
            part('name="file"; filename="日本.jpg"', b"1"),
            Upload(b"1", "日本.jpg"),
            id="a name beyond Latin-1",
        ),
        pytest.param(
            part('name="file"; filename="a"', b"\r\n--x\r\n--xy\r\n"),
            Upload(b"\r\n--x\r\n--xy\r\n", "a"),
            id="bytes that almost are a boundary",
        ),
    ],
)
def test_the_picture_in_a_form(body: bytes, expected: Upload) -> None:
    assert extract(FORM, body + b"--xx--\r\n") == expected


def test_a_raw_body_is_the_picture() -> None:
    assert extract("image/png", b"123") == Upload(b"123", None)


def test_parts_come_in_order() -> None:
    parts = parse_form(FORM, part('name="b"', b"1") + part('name="a"', b"2") + b"--xx--")
    assert [(one.name, bytes(one.data)) for one in parts] == [("b", b"1"), ("a", b"2")]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("multipart/form-data", b"--xx--", id="no boundary"),
        pytest.param(FORM, b"", id="nothing"),
        pytest.param(FORM, part('name="file"', b"1"), id="cut off"),
        pytest.param(FORM, part('filename="a"', b"1") + b"--xx--", id="a part without a name"),
        pytest.param(FORM, b"--yy\r\n\r\n--yy--", id="another boundary"),
        pytest.param(FORM, b"--xx\r\n" + b"a: b\r\n" * 100 + b"\r\n--xx--", id="a hundred headers"),
    ],
)
def test_malformed_forms(content_type: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_form(content_type, body)
