"""Reading requests the way existing clients send them."""

import json
import math
from typing import Any, NoReturn

from fastapi import Request

from modelward.domain import (
    AccessDeniedError,
    InvalidInputError,
    PayloadTooLargeError,
    UnauthenticatedError,
)
from modelward.jobs import AssessmentService, Caller

__all__ = [
    "api_key",
    "caller_of",
    "identify_for_job",
    "identify_for_registration",
    "organisation_id",
    "read_json",
    "required_query",
    "service_of",
]

_ORGANISATION_HEADERS = ("org-id", "org_id")


def service_of(request: Request) -> AssessmentService:
    """The service that the app was made with."""
    service: AssessmentService = request.app.state.service
    return service


def organisation_id(request: Request) -> str | None:
    """The organisation id, whichever of the header spellings carries it."""
    for name in _ORGANISATION_HEADERS:
        if value := request.headers.get(name):
            return value.strip()
    return None


def api_key(request: Request) -> str | None:
    """The API key."""
    value = request.headers.get("x-api-key")
    return value.strip() if value else None


def caller_of(request: Request) -> Caller:
    """Who makes the request, as the guard found out.

    Raises:
        AccessDeniedError: The route's policy asks for no key, so nobody was identified.
    """
    caller = getattr(request.state, "caller", None)
    if not isinstance(caller, Caller):
        raise AccessDeniedError("x-api-key: expected a key for this call; none was checked")
    return caller


def identify_for_registration(service: AssessmentService, request: Request) -> Caller:
    """Who registers a model: organisation and key are both needed and must belong together.

    Raises:
        UnauthenticatedError: Either is missing, unknown or expired, or they do not match.
    """
    organisation = service.tenants.organisation(organisation_id(request))
    caller = service.tenants.authenticate(api_key(request))
    if caller.organisation != organisation:
        raise UnauthenticatedError("x-api-key: expected a key of the organisation in Org-Id")
    return caller


def identify_for_job(service: AssessmentService, request: Request) -> Caller:
    """Who asks for a job: the key decides; an organisation header must match it where it is sent.

    Raises:
        AccessDeniedError: Missing, unknown or expired key, or a header that does not match.
    """
    try:
        if organisation_id(request) is not None:
            return identify_for_registration(service, request)
        return service.tenants.authenticate(api_key(request))
    except UnauthenticatedError as error:
        raise AccessDeniedError(error.message) from None


def required_query(request: Request, name: str) -> str:
    """A query parameter.

    Raises:
        InvalidInputError: It is missing or empty.
    """
    value = request.query_params.get(name)
    if not value:
        raise InvalidInputError(f"{name}: expected as a query parameter; it is missing")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _parse(raw: bytes) -> Any:
    return json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite)


async def read_json(request: Request, *, needed: bool = True) -> dict[str, Any]:
    """The body as a JSON object, whatever content type it came under.

    Args:
        request: The request.
        needed: Whether a missing body is an error; otherwise it is an empty object.

    Raises:
        InvalidInputError: Not JSON, or not an object.
        PayloadTooLargeError: Longer than the service takes.
    """
    limit = service_of(request).settings.json_max_bytes
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise PayloadTooLargeError(f"body: expected at most {limit} bytes of JSON; got more")
    if not raw and not needed:
        return {}
    try:
        content = _parse(bytes(raw))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"body: expected a JSON object; got none ({error})") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise InvalidInputError(f"body: expected a JSON object; got a JSON {kind}")
    return content
