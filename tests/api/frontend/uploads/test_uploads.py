"""Bodies are read within their limits, and taken apart whatever way the pictures were sent."""

import asyncio
import base64
import tracemalloc
from collections.abc import Callable

import orjson
import pytest
from fastapi import Request

from api.frontend.uploads.body import Upload, UploadLimits, Uploads, check_headers
from api.frontend.uploads.forms import TooManyParts, parse_form
from api.frontend.uploads.reading import read_uploads
from api.protocol.errors import ApiError

FORM = "multipart/form-data; boundary=xx"
JSON = "application/json"
LIMITS = UploadLimits(max_bytes=1000, max_pictures=3)
IMAGE = bytes(range(256)) * 3  # every byte, and all of both alphabets in base64
TEXT = base64.b64encode(IMAGE).decode()
FRAMING = 16 * 1024


def request_of(chunks: list[bytes], headers: dict[str, str]) -> tuple[Request, list[bytes]]:
    """A request, and the list of chunks from which those that were read are gone."""
    left = list(chunks)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive), left


async def read_request(
    request: Request, limits: UploadLimits = LIMITS, receive: Callable[[int], None] = lambda size: None
) -> Uploads:
    """What the service does: the headers are checked, then the body is read."""
    return await read_uploads(request, check_headers(request, limits), None, receive)


def read(body: bytes, content_type: str, limits: UploadLimits = LIMITS) -> Uploads:
    request, _ = request_of([body], {"content-type": content_type, "content-length": str(len(body))})
    return asyncio.run(read_request(request, limits))


def refusal(body: bytes, content_type: str) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        read(body, content_type)
    assert str(caught.value).endswith(".")
    return caught.value.status, caught.value.code


LENGTH, CHUNKED = "content-length", {"transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    ("chunks", "headers", "expected", "left"),
    [
        pytest.param([b"ab", b"c"], {LENGTH: "3"}, b"abc", 0, id="in chunks"),
        pytest.param([bytes(1000)], {LENGTH: "1000"}, bytes(1000), 0, id="exactly the limit"),
        pytest.param(
            [bytes(1001)], {LENGTH: "1001"}, (413, "too_many_bytes"), 1, id="length: nothing is read"
        ),
        pytest.param([b"x"], {LENGTH: "9" * 18}, (413, "too_many_bytes"), 1, id="an absurd length"),
        pytest.param(
            [bytes(600)] * 9, CHUNKED, (413, "too_many_bytes"), 7, id="no length: stops at the limit"
        ),
        pytest.param([bytes(600)] * 9, {LENGTH: "10"}, (413, "too_many_bytes"), 7, id="a length that lies"),
        pytest.param([b""], {LENGTH: "0"}, (400, "empty"), 1, id="no body"),
        pytest.param([b""], {}, (400, "empty"), 1, id="neither length nor chunks: no body"),
        pytest.param([b"", b""], CHUNKED, (400, "empty"), 0, id="chunked, nothing in it"),
        pytest.param(
            [b"x"],
            {LENGTH: "1", "content-encoding": "gzip"},
            (415, "unsupported_media_type"),
            1,
            id="compressed once more",
        ),
        pytest.param(
            [b"x"], {LENGTH: "1", "content-encoding": "identity"}, b"x", 0, id="not compressed, said so"
        ),
    ],
)
def test_a_raw_body(chunks: list[bytes], headers: dict[str, str], expected: object, left: int) -> None:
    request, rest = request_of(chunks, {"content-type": "image/png"} | headers)
    try:
        uploads: object = asyncio.run(read_request(request))
    except ApiError as error:
        uploads = error.status, error.code
    if isinstance(expected, bytes):
        expected = Uploads((Upload(expected),), many=False)
    assert (uploads, len(rest)) == (expected, left)


@pytest.mark.parametrize(
    ("content_type", "length", "expected"),
    [
        pytest.param("image/jpeg", 700, 700, id="what it states"),
        pytest.param("image/jpeg", None, 1000, id="unknown: one picture"),
        pytest.param(FORM, 2900, 5800, id="a form of three, whose pictures are held beside it"),
        pytest.param(FORM, None, 2 * (1000 + 5 * 1024 + FRAMING), id="a form of unknown length: one picture"),
        pytest.param(
            JSON, None, 2 * (1368 + FRAMING), id="base64 of unknown length: one picture, a third longer"
        ),
        pytest.param("image/jpeg", 1001, (413, "too_many_bytes"), id="too much for a picture"),
        pytest.param(FORM, 40_000, (413, "too_many_bytes"), id="too much for three"),
        pytest.param(JSON, 22_000, (413, "too_many_bytes"), id="too much for three in base64"),
        pytest.param("text/plain", 10, (415, "unsupported_media_type"), id="no picture"),
        pytest.param("text/html", 10, (415, "unsupported_media_type"), id="a page"),
        pytest.param("application/pdf", 10, (415, "unsupported_media_type"), id="a document"),
        pytest.param("video/mp4", 10, (415, "unsupported_media_type"), id="a film"),
        pytest.param("application/xml", 10, (415, "unsupported_media_type"), id="something structured"),
        pytest.param("image", 10, (415, "unsupported_media_type"), id="half a type"),
        pytest.param("", 10, 10, id="no content type"),
        pytest.param(";", 10, 10, id="an empty content type"),
        pytest.param("application/octet-stream", 10, 10, id="bytes"),
        pytest.param("Image/X-Icon; a=b", 10, 10, id="any image type"),
        pytest.param("image/jpeg", 0, (400, "empty"), id="empty"),
    ],
)
def test_what_a_request_declares(content_type: str, length: int | None, expected: object) -> None:
    headers = {"content-type": content_type} | (CHUNKED if length is None else {LENGTH: str(length)})
    request, rest = request_of([b""], headers)
    try:
        declared: object = check_headers(request, LIMITS).held
    except ApiError as error:
        declared = error.status, error.code
    assert declared == expected
    assert rest, "nothing is read for it"


@pytest.mark.parametrize(
    ("content_type", "max_held", "most"),
    [
        pytest.param(FORM, 60_000, 30_000, id="a form: half of the memory, its pictures are the other half"),
        pytest.param(FORM, 10, 1000 + 5 * 1024 + FRAMING, id="no less than one picture"),
        pytest.param(JSON, 37_000, 18_500, id="JSON: half"),
        pytest.param("image/jpeg", 10, 1000, id="a raw body: one picture"),
    ],
)
def test_a_request_takes_no_more_memory_than_is_set_aside(
    content_type: str, max_held: int, most: int
) -> None:
    limits = UploadLimits(1000, 3, max_held)
    headers = {"content-type": content_type, LENGTH: str(most)}
    assert check_headers(request_of([b""], headers)[0], limits).held > 0
    headers[LENGTH] = str(most + 1)
    with pytest.raises(ApiError, match=f"{most:,}") as refused:
        check_headers(request_of([b""], headers)[0], limits)
    assert refused.value.status == 413


@pytest.mark.parametrize(("content_type", "factor"), [("image/png", 1), (FORM, 2)])
def test_bytes_are_told_as_they_come(content_type: str, factor: int) -> None:
    chunks = [part('name="file"', b"1"), END]
    told: list[int] = []
    request, _ = request_of(
        list(chunks), {"content-type": content_type, LENGTH: str(len(chunks[0]) + len(END))}
    )
    asyncio.run(read_request(request, LIMITS, told.append))
    assert [size for size in told if size] == [factor * len(chunk) for chunk in chunks]


def test_a_body_of_unknown_length_is_not_read_beyond_what_was_declared() -> None:
    request, rest = request_of([bytes(10_000)] * 9, {"content-type": FORM} | CHUNKED)
    with pytest.raises(ApiError, match="Content-Length") as caught:
        asyncio.run(read_request(request))
    assert caught.value.status == 413
    assert len(rest) == 6


def part(disposition: str, data: bytes) -> bytes:
    return f"--xx\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + data + b"\r\n"


END = b"--xx--\r\n"
A, B = part('name="file"; filename="a.jpg"', b"123"), part('name="file"; filename="b.jpg"', b"456")
LARGE = part('name="file"; filename="large.jpg"', bytes(1001))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(A, [Upload(b"123", "a.jpg")], id="a file"),
        pytest.param(part('name="file"', b"123"), [Upload(b"123", None)], id="a field without a file name"),
        pytest.param(part('name="file"; filename=""', b"1"), [Upload(b"1", "")], id="an empty file name"),
        pytest.param(
            part('name="file"; filename="日本.jpg"', b"1"), [Upload(b"1", "日本.jpg")], id="beyond Latin-1"
        ),
        pytest.param(
            part('name="file"; filename="a"', b"\r\n--x\r\n--xy\r\n"),
            [Upload(b"\r\n--x\r\n--xy\r\n", "a")],
            id="bytes that almost are a boundary",
        ),
        pytest.param(
            A + B + A, [Upload(b"123", "a.jpg"), Upload(b"456", "b.jpg"), Upload(b"123", "a.jpg")], id="three"
        ),
        pytest.param(part('name="file"', IMAGE), [Upload(IMAGE)], id="any bytes"),
    ],
)
def test_the_pictures_of_a_form(body: bytes, expected: list[Upload]) -> None:
    assert read(body + END, FORM) == Uploads(tuple(expected), many=len(expected) > 1)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        pytest.param(END, FORM, (400, "missing_file"), id="nothing in it"),
        pytest.param(part('name="picture"', b"1") + END, FORM, (400, "missing_file"), id="another field"),
        pytest.param(A + part('name="top"', b"1") + END, FORM, (422, "invalid_parameter"), id="a parameter"),
        pytest.param(A * 4 + END, FORM, (413, "too_many_pictures"), id="a file too many"),
        pytest.param(part('name="file"', b"") * 300 + END, FORM, (413, "too_many_pictures"), id="hundreds"),
        pytest.param(LARGE + END, FORM, (413, "too_many_bytes"), id="too large a file"),
        pytest.param(A, FORM, (400, "malformed_form"), id="cut off"),
        pytest.param(A + END, "multipart/form-data", (400, "malformed_form"), id="no boundary"),
    ],
)
def test_forms_that_are_refused(body: bytes, content_type: str, expected: tuple[int, str]) -> None:
    assert refusal(body, content_type) == expected


def test_one_large_file_costs_its_neighbours_nothing() -> None:
    uploads = read(A + LARGE + B + END, FORM)
    assert [upload.data for upload in uploads.items] == [b"123", b"", b"456"]
    refusals = [upload.refusal and upload.refusal.code for upload in uploads.items]
    assert refusals == [None, "too_many_bytes", None]
    assert uploads.items[1].name == "large.jpg"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("multipart/form-data", b"--xx--", id="no boundary"),
        pytest.param(FORM, b"", id="nothing"),
        pytest.param(FORM, part('name="file"', b"1"), id="cut off"),
        pytest.param(FORM, part('filename="a"', b"1") + b"--xx--", id="a part without a name"),
        pytest.param(FORM, b"--yy\r\n\r\n--yy--", id="another boundary"),
        pytest.param(FORM, b"--xx\r\n" + b"a: b\r\n" * 100 + b"\r\n--xx--", id="a hundred headers"),
        pytest.param(FORM, b"--xx\r\na: " + b"b" * 9000 + b"\r\n\r\n--xx--", id="a header of 9000 bytes"),
    ],
)
def test_malformed_forms(content_type: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_form(content_type, body, max_parts=3)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(A * 4 + b"--xx\r\nbroken", id="what follows would be malformed, if anybody got there"),
        pytest.param(
            part('name="file"', b"\r\n--xxZ" * 9) + END, id="what is nearly a boundary takes as long"
        ),
    ],
)
def test_more_fields_than_are_wanted_are_not_taken_apart(body: bytes) -> None:
    with pytest.raises(TooManyParts):
        parse_form(FORM, body, max_parts=3)


def test_parts_come_in_order() -> None:
    parts = parse_form(FORM, part('name="b"', b"1") + part('name="a"', b"2") + b"--xx--", max_parts=2)
    assert [(one.name, one.data) for one in parts] == [("b", b"1"), ("a", b"2")]


def standard(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(standard, id="standard"),
        pytest.param(lambda data: base64.urlsafe_b64encode(data).decode(), id="url-safe"),
        pytest.param(lambda data: standard(data).rstrip("="), id="no padding"),
        pytest.param(lambda data: base64.encodebytes(data).decode(), id="in lines, as MIME has them"),
        pytest.param(lambda data: f"data:image/png;base64,{standard(data)}", id="data url"),
        pytest.param(lambda data: f"DATA:a/b;charset=x;BASE64,{standard(data)}", id="data url in capitals"),
    ],
)
def test_base64_in_each_of_its_alphabets(encode: Callable[[bytes], str]) -> None:
    for data in (IMAGE, IMAGE + b"1", IMAGE + b"12"):  # each length of padding
        assert read(orjson.dumps({"image": encode(data)}), JSON) == Uploads((Upload(data),), many=False)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"image": "ab!d"}, (400, "bad_base64"), id="a foreign character"),
        pytest.param({"image": "abcde"}, (400, "bad_base64"), id="a length that cannot be"),
        pytest.param({"image": "ab=cd"}, (400, "bad_base64"), id="padding within"),
        pytest.param({"image": "日本"}, (400, "bad_base64"), id="beyond ASCII"),
        pytest.param({"image": "data:image/png,abcd"}, (400, "bad_base64"), id="data url of text"),
        pytest.param(
            {"image": base64.b64encode(bytes(1001)).decode()}, (413, "too_many_bytes"), id="too large"
        ),
        pytest.param({"images": [TEXT] * 4}, (413, "too_many_pictures"), id="a picture too many"),
        pytest.param({"image": TEXT, "url": "http://a/"}, (400, "malformed_json"), id="two keys"),
        pytest.param({}, (400, "malformed_json"), id="no key"),
        pytest.param({"picture": TEXT}, (400, "malformed_json"), id="another key"),
        pytest.param({"image": [TEXT]}, (400, "malformed_json"), id="a list for one picture"),
        pytest.param({"image": None}, (400, "malformed_json"), id="null"),
        pytest.param({"images": TEXT}, (400, "malformed_json"), id="one picture for a list"),
        pytest.param({"images": []}, (400, "malformed_json"), id="an empty list"),
        pytest.param({"images": [TEXT, 1]}, (400, "malformed_json"), id="a number among pictures"),
        pytest.param({"url": ["http://a/"]}, (400, "malformed_json"), id="a list of addresses"),
        pytest.param([TEXT], (400, "malformed_json"), id="a bare list"),
        pytest.param({"url": "http://example.com/a.jpg"}, (403, "url_disabled"), id="an address"),
        pytest.param(b'{"image": "ab', (400, "malformed_json"), id="cut off"),
        pytest.param(b'{"image": "\xff"}', (400, "malformed_json"), id="no UTF-8"),
        pytest.param(b"[" * 9000, (400, "malformed_json"), id="deep"),
    ],
)
def test_json_that_is_refused(body: object, expected: tuple[int, str]) -> None:
    assert refusal(body if isinstance(body, bytes) else orjson.dumps(body), JSON) == expected


def test_the_refusal_of_json_names_the_three_forms() -> None:
    with pytest.raises(ApiError, match=r'"image":.*"images":.*"url":'):
        read(b"{}", JSON)


@pytest.mark.parametrize("name", ["file", "files", "image", "images", "file[]", "images[]"])
def test_names_of_form_fields(name: str) -> None:
    one = part(f'name="{name}"; filename="a"', b"1")
    other = part('name="image"; filename="b"', b"2")
    assert read(one + END, FORM) == Uploads((Upload(b"1", "a"),), many=False)
    assert read(one + other + END, FORM) == Uploads((Upload(b"1", "a"), Upload(b"2", "b")), many=True)


@pytest.mark.parametrize(
    ("body", "many"),
    [
        ({"image": TEXT}, False),
        ({"file": TEXT}, False),
        ({"images": [TEXT]}, True),
        ({"files": [TEXT]}, True),
    ],
)
def test_keys_of_json(body: dict[str, object], many: bool) -> None:
    assert read(orjson.dumps(body), JSON) == Uploads((Upload(IMAGE),), many=many)


def test_several_pictures_in_json() -> None:
    """One that is no base64, and one that is too large, cost their neighbours nothing."""
    large = base64.b64encode(bytes(1001)).decode()
    uploads = read(orjson.dumps({"images": [TEXT, "?", large]}), JSON)
    assert uploads.many
    assert [upload.data for upload in uploads.items] == [IMAGE, b"", b""]
    refusals = [upload.refusal and upload.refusal.code for upload in uploads.items]
    assert refusals == [None, "bad_base64", "too_many_bytes"]
    assert read(orjson.dumps({"images": [TEXT]}), JSON) == Uploads((Upload(IMAGE),), many=True)


@pytest.mark.parametrize("values", [b"{},", b"[],", b"1,"], ids=["objects", "lists", "numbers"])
def test_small_values_do_not_become_large_objects(values: bytes) -> None:
    """A million of them would take 70 times the memory of the body."""
    limits = UploadLimits(max_bytes=3_000_000, max_pictures=3)
    body = b'{"images":[' + values * 1_000_000 + b"1]}"
    request, _ = request_of([body], {"content-type": JSON, LENGTH: str(len(body))})
    tracemalloc.start()
    try:
        with pytest.raises(ApiError, match="far more values") as caught:
            asyncio.run(read_request(request, limits))
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()
    assert caught.value.code == "malformed_json"


@pytest.mark.parametrize("content_type", [FORM, JSON])
@pytest.mark.parametrize(("size", "meanwhile"), [(500, False), (500_000, True)])
def test_large_bodies_are_taken_apart_off_the_event_loop(
    content_type: str, size: int, meanwhile: bool
) -> None:
    """Another task gets its turn while a large body is taken apart; for a small one that is not worth it."""
    data = bytes(range(250)) * (size // 250)
    body = part('name="file"', data) + END
    if content_type == JSON:
        body = orjson.dumps({"image": standard(data)})
    request, _ = request_of([body], {"content-type": content_type, LENGTH: str(len(body))})

    async def run() -> tuple[Uploads, bool]:
        other = asyncio.create_task(asyncio.sleep(0))
        uploads = await read_request(request, UploadLimits(size, 1))
        return uploads, other.done()

    assert asyncio.run(run()) == (Uploads((Upload(data),), many=False), meanwhile)
