"""Keys of an organisation, for its admins."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from modelward.api.docs import KEY_CREATE, KEY_LIST, KEY_REVOKE, KEY_ROTATE
from modelward.api.errors import json_response
from modelward.api.requests import caller_of, read_json, service_of
from modelward.domain import InvalidInputError, InvalidParameterError
from modelward.jobs import KeyInfo, NewKey, parse_role

__all__ = ["router"]

router = APIRouter(tags=["Keys"])


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _shown(info: KeyInfo, now: float) -> dict[str, Any]:
    return {
        "key_id": info.key_id,
        "label": info.label,
        "role": info.role.value,
        "state": info.state(now),
        "exchanged": info.exchanged,
        "created": _time(info.created),
        "last_used": _time(info.used),
        "expires": _time(info.expires),
        "revoked": _time(info.revoked),
    }


def _made(made: NewKey, now: float) -> dict[str, Any]:
    return {"x_api_key": made.secret, **_shown(made.info, now)}


def _handed_out(request: Request, made: NewKey) -> Response:
    # Whoever sends it from now on is no guesser, whatever its neighbours do.
    request.app.state.limits.known.add(made.secret)
    return json_response(_made(made, service_of(request).clock()))


def _seconds(body: dict[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidParameterError(f"{name}: expected a number of seconds; got {value!r:.40}")
    try:
        return float(value)
    except OverflowError:
        raise InvalidParameterError(f"{name}: expected a smaller number of seconds") from None


@router.get("/keys", openapi_extra=KEY_LIST)
async def list_keys(request: Request) -> Response:
    """The keys of the organisation, without their secrets."""
    service, caller = service_of(request), caller_of(request)
    found = await run_in_threadpool(service.keys.listed, caller.organisation)
    now = service.clock()
    return json_response({"keys": [_shown(info, now) for info in found]})


@router.post("/keys", openapi_extra=KEY_CREATE)
async def create_key(request: Request) -> Response:
    """Make a key; its secret is in this answer and nowhere else."""
    service, caller = service_of(request), caller_of(request)
    body = await read_json(request)
    for name in ("label", "role"):
        if name not in body:
            raise InvalidInputError(f"{name}: expected in the request; it is missing")
    role, lifetime = parse_role(body["role"]), _seconds(body, "expires_in_seconds")

    def work() -> NewKey:
        return service.keys.create(
            caller.organisation,
            label=body["label"],
            role=role,
            lifetime=lifetime,
            lifetime_name="expires_in_seconds",
        )

    return _handed_out(request, await run_in_threadpool(work))


@router.delete("/keys/{key_id}", openapi_extra=KEY_REVOKE)
async def revoke_key(request: Request) -> Response:
    """End a key at once; the last admin key stays."""
    service, caller = service_of(request), caller_of(request)
    key_id = request.path_params["key_id"]
    info = await run_in_threadpool(service.keys.revoke, caller.organisation, key_id)
    return json_response(_shown(info, service.clock()))


@router.post("/keys/{key_id}/rotate", openapi_extra=KEY_ROTATE)
async def rotate_key(request: Request) -> Response:
    """Replace a key by a new one of the same label and role."""
    service, caller = service_of(request), caller_of(request)
    grace = _seconds(await read_json(request, needed=False), "grace_seconds") or 0.0

    def work() -> NewKey:
        key_id = request.path_params["key_id"]
        return service.keys.rotate(
            caller.organisation, key_id, grace=grace, grace_name="grace_seconds"
        )

    return _handed_out(request, await run_in_threadpool(work))
