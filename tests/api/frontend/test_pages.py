"""The files of the page as a browser gets them, and what they allow it to do."""

import re
from importlib.resources import files

import httpx
import pytest

PARTS = sorted(part.name for part in files("api").joinpath("page").iterdir())
TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in PARTS)])
def test_each_file_comes_with_its_type_and_is_kept(unready_client: httpx.Client, path: str) -> None:
    """Before the weights are there, too: the page says so itself."""
    reply = unready_client.get(path)
    kind = "html" if path == "/" else path.rpartition(".")[2]
    assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (200, TYPES[kind])
    assert reply.headers["cache-control"] == "no-cache"
    known = {"If-None-Match": reply.headers["etag"]}
    again = unready_client.get(path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    head = unready_client.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(reply.content)))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("content-security-policy", r"default-src 'self';.*frame-ancestors 'none'"),
        ("permissions-policy", r"camera=\(self\)"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ],
)
def test_the_page_is_held_to_this_service(unready_client: httpx.Client, header: str, value: str) -> None:
    for path in ("/", "/page/page.js", "/page/icon.svg"):
        assert re.search(value, unready_client.get(path).headers[header])
    assert "unsafe" not in unready_client.get("/").headers["content-security-policy"]


def test_nothing_points_elsewhere(unready_client: httpx.Client) -> None:
    """Links are relative, for a service below a path of a proxy, and there is no address of another host."""
    text = unready_client.get("/").text
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert links
    assert [link for link in links if link.startswith(("/", "http", "data:"))] == []
    for name in PARTS:
        addresses = set(re.findall(r"https?://[\w.]+", unready_client.get(f"/page/{name}").text))
        assert addresses <= {"http://www.w3.org"}  # the name of SVG, which nobody asks for


@pytest.mark.parametrize(
    "path", ["/page/absent.js", "/page/", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/%2fetc%2fpasswd"]
)
def test_nothing_else_is_served(unready_client: httpx.Client, path: str) -> None:
    reply = unready_client.get(path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
