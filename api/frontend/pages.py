"""The pages for people: ``/`` and ``/docs``. Neither asks anything of anybody but this service."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
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


_SWAGGER_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}

# Addresses are relative: behind a proxy the service may stand below a path. The validator is somebody else's.
_DOCS_SCRIPT = """\
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
"""
_DOCS_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>GoogLeNet detector: interface</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# Pictures that a tried request brings back are blobs, the style sheet's signs data.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_HEADERS = {"Content-Security-Policy": _DOCS_POLICY, "X-Content-Type-Options": "nosniff"}
_SWAGGER_HEADERS = {"Cache-Control": "max-age=86400", "X-Content-Type-Options": "nosniff"}


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself. Its links are relative: it also works below a path of a reverse proxy."""
    return await _file("index.html", request)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def page_file(name: str, request: Request) -> Response:
    """A style sheet, a script or an icon of the page."""
    return await _file(name, request)


async def _file(name: str, request: Request) -> Response:
    """Return the file, or 304 for a browser that has it. Raises HTTPException 404 where there is none."""
    response = await _files.get_response(name, request.scope)
    response.headers.update(_HEADERS)
    return response


@router.get("/docs")
async def docs() -> Response:
    """Swagger UI, which shows ``/openapi.json``."""
    return Response(_DOCS_PAGE, headers=_DOCS_HEADERS, media_type="text/html")


@router.get("/docs/start.js")
async def docs_script() -> Response:
    """The script that starts Swagger UI."""
    return Response(_DOCS_SCRIPT, headers=_DOCS_HEADERS, media_type="text/javascript")


@router.get("/docs/{name}")
async def swagger_file(name: str) -> Response:
    """A file of Swagger UI."""
    if name not in _SWAGGER_FILES:
        raise HTTPException(404)
    content = files("fastapi_swagger.resources").joinpath(name).read_bytes()
    return Response(content, headers=_SWAGGER_HEADERS, media_type=_SWAGGER_FILES[name])
