"""The page at ``/``: static files, which ask nothing of anybody but this service."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

_files = StaticFiles(directory=Path(__file__).parents[1] / "page")

_HEADERS = {
    # A name stays while its content changes from one release to the next: kept, but asked about each time.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself. Its links are relative: it also works below a path of a reverse proxy."""
    return await _file("index.html", request)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def part(name: str, request: Request) -> Response:
    """A style sheet, a script or an icon of the page."""
    return await _file(name, request)


async def _file(name: str, request: Request) -> Response:
    """The file, or 304 for a browser that has it. Raises HTTPException 404 where there is none."""
    response = await _files.get_response(name, request.scope)
    response.headers.update(_HEADERS)
    return response
