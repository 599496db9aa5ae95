"""Errors, answered in one shape of JSON: the front's own refusals, and handlers for every exception."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.protocol.errors import ApiError


def json_reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a reply with ``content`` as its JSON body."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    """Return the JSON of an error, which looks like this unless its route says otherwise."""
    return {"error": {"code": code, "message": message}}


def error_reply(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the one shape."""
    return json_reply(error_body(status, code, message), status, headers)


_MAX_PATH = 200  # of a path in a message


class ClientDisconnected(Exception):
    """The client is gone: there is nobody to answer."""


def not_ready() -> ApiError:
    """Return the refusal until the weights are there."""
    return ApiError(503, "not_ready", "The weights are not loaded yet. Try again in a moment.")


def about_to_end() -> ApiError:
    """Return the refusal once the service was told to end."""
    headers = {"Retry-After": "1", "Connection": "close"}
    return ApiError(503, "draining", "The service is about to end. Ask another one.", headers)


def _refused(
    request: Request, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    request.state.error_code = code  # for the log and the metrics
    body = getattr(request.scope.get("route"), "error_body", error_body)
    return json_reply(body(status, code, message), status, headers)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every exception of the app in the one shape, or in that of its route: the ``error_body`` of the
    route's class, a function like :func:`error_body`."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_disconnected)
    app.add_exception_handler(ClientDisconnected, _client_disconnected)
    app.add_exception_handler(Exception, _internal_error)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _refused(request, error.status, error.code, str(error), error.headers)


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = (
        f"{problem['loc'][-1]}: {_in_words(problem['type'], problem['msg'])}" for problem in error.errors()
    )
    return _refused(request, 422, "invalid_parameter", "; ".join(problems) + ". See /docs.")


def _in_words(kind: str, message: str) -> str:
    return "there is no such parameter" if kind == "extra_forbidden" else message


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.NOT_FOUND:
        return _refused(
            request, status, "not_found", f"There is nothing at {_shown(request.url.path)}. See /docs."
        )
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = {method.strip() for method in (error.headers or {}).get("Allow", "").split(",")} - {""}
        if "GET" in methods:
            methods.add("HEAD")  # see api.frontend.middleware.HeadAsGet
        allowed = ", ".join(sorted(methods))
        return _refused(
            request,
            status,
            "method_not_allowed",
            f"{_shown(request.url.path)} answers {allowed} only.",
            {"Allow": allowed},
        )
    return _refused(request, status, status.name.lower(), f"{status.phrase}.", error.headers)


def _shown(path: str) -> str:
    return path if len(path) <= _MAX_PATH else path[:_MAX_PATH] + "..."


async def _client_disconnected(request: Request, error: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it


async def _internal_error(request: Request, error: Exception) -> Response:
    # Starlette raises the error again once this is sent, and the server logs it with its traceback.
    return _refused(request, 500, "internal_error", "Something went wrong here. It is in the service's log.")
