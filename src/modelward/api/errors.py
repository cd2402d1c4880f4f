"""Every error leaves as JSON with a message, whatever raised it."""

import http
import json
import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from modelward.api.refusals import report_refusal
from modelward.domain import ModelwardError, RequestTimeoutError
from modelward.storage import disk_trouble

__all__ = [
    "domain_response",
    "error_response",
    "install_error_handlers",
    "json_response",
    "unexpected_response",
    "whole_seconds",
]

_LOG = logging.getLogger(__name__)


def whole_seconds(wait: float) -> int:
    """Seconds as Retry-After tells them, rounded up and 1 at least; texts name the same."""
    return max(1, math.ceil(wait))


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A JSON answer in plain ASCII, so that any text a client sent can be echoed."""
    body = json.dumps(content, ensure_ascii=True, allow_nan=False)
    return Response(body, status, headers, media_type="application/json")


def error_response(
    request: Request, status: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    """An error body; ``detail`` repeats ``message`` for clients that look there."""
    return json_response(
        {
            "message": message,
            "detail": message,
            "error": http.HTTPStatus(status).phrase,
            "request_id": getattr(request.state, "request_id", None),
        },
        status,
        headers,
    )


def domain_response(request: Request, error: ModelwardError) -> Response:
    """The answer for an error with a message of our own."""
    if error.status >= 500:
        _LOG.error("request failed: %s", error)
    report_refusal(request, error)
    headers = {}
    # 429, 503 and 507 know when another try makes sense
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(whole_seconds(retry_after))
    if isinstance(error, RequestTimeoutError):
        # The rest of the body would otherwise be taken for the next request.
        headers["Connection"] = "close"
    return error_response(request, error.status, error.message, headers)


async def _domain(request: Request, error: Exception) -> Response:
    if not isinstance(error, ModelwardError):
        raise error
    return domain_response(request, error)


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = {
        404: "path: expected a call of this API; there is none here. GET /docs lists them",
        405: f"method: {request.method} is not allowed on this path. GET /docs lists the calls",
    }.get(error.status_code, str(error.detail))
    return error_response(request, error.status_code, message, dict(error.headers or {}))


async def _validation(request: Request, error: Exception) -> Response:
    return error_response(request, 400, f"request: expected another form; {error}")


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)


async def _disk(request: Request, error: Exception) -> Response:
    if found := disk_trouble(error):
        return domain_response(request, found)
    _LOG.error("request failed", exc_info=error)
    return unexpected_response(request, error)


def unexpected_response(request: Request, error: Exception) -> Response:
    """The answer for a mistake of ours; it tells nothing about the inside."""
    return error_response(
        request, 500, f"The service met an unexpected problem ({type(error).__name__}); see its log"
    )


def install_error_handlers(app: FastAPI) -> None:
    """Route every exception through the JSON error body."""
    app.add_exception_handler(ModelwardError, _domain)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(OSError, _disk)
