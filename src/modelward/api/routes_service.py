"""Whether the service is there, ready for work, and how it does."""

import hmac
import ipaddress

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from modelward._version import __version__
from modelward.api.addresses import Proxies
from modelward.api.docs import ALIVE, METRICS, READY
from modelward.api.errors import json_response
from modelward.api.metrics import METRICS_TYPE
from modelward.api.requests import service_of
from modelward.domain import AccessDeniedError

__all__ = ["router"]

router = APIRouter(tags=["Service"])

_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "via")


@router.get("/health", openapi_extra=ALIVE)
async def health() -> Response:
    """Whether the service answers."""
    return json_response({"status": "ok", "version": __version__})


@router.get("/healthz", openapi_extra=ALIVE)
async def healthz() -> Response:
    """Whether the process answers; looks at nothing else."""
    return json_response({"status": "ok"})


@router.get("/readyz", openapi_extra=READY)
async def readyz(request: Request) -> Response:
    """Whether work can be taken: database writable, jobs being started, disk not full."""
    checks = await run_in_threadpool(service_of(request).readiness.checks)
    ready = all(outcome == "ok" for outcome in checks.values())
    content = {"status": "ok" if ready else "not ready", "checks": checks}
    return json_response(content, 200 if ready else 503)


@router.get("/metrics", openapi_extra=METRICS, response_class=Response)
async def metrics(request: Request) -> Response:
    """Figures in Prometheus' text format; for this machine, or for holders of the token."""
    _check_operator(request)
    text = await run_in_threadpool(request.app.state.metrics.text)
    return Response(text, media_type=METRICS_TYPE)


def _check_operator(request: Request) -> None:
    token = service_of(request).settings.metrics_token
    if token is not None:
        wanted = f"Bearer {token.get_secret_value()}"
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            raise AccessDeniedError(
                "authorization: expected the Bearer token of the setting metrics_token"
            )
        request.app.state.limits.known.add(given)
        return
    # A proxy on this machine is a local caller too, but its clients are not. Not every proxy says
    # that it is one: where it is named in the settings, it need not.
    peer = request.client.host if request.client else ""
    proxies = Proxies(service_of(request).settings.trusted_proxies)
    proxied = any(name in request.headers for name in _FORWARDED) or proxies.trusts(peer)
    if proxied or not _is_local(peer):
        raise AccessDeniedError(
            "metrics: expected a caller on this machine; set metrics_token to let others in"
        )


def _is_local(peer: str) -> bool:
    try:
        found = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
