"""Runs before every route: who calls, is it allowed, and not too often.

The routes themselves read ``caller_of(request)`` and need no check of their own.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from modelward.api.errors import whole_seconds
from modelward.api.limits import Limits, RateLimiter
from modelward.api.metrics import Metrics
from modelward.api.policy import Access, Policy, find_policy
from modelward.api.requests import (
    api_key,
    identify_for_job,
    identify_for_registration,
    organisation_id,
    service_of,
)
from modelward.domain import AccessDeniedError, TooManyRequestsError, UnauthenticatedError
from modelward.jobs import AssessmentService, Caller, Permission, Role, current

__all__ = ["guard", "organisation_of", "remember_link", "reserve_address", "slow_down"]

Found = TypeVar("Found")


async def guard(request: Request) -> None:
    """Let a request through to its route, or raise.

    Raises:
        AccessDeniedError: No policy, or a key or role that does not open this route.
        UnauthenticatedError: Organisation or key are wrong, where the contract says 401.
        TooManyRequestsError: Too often.
    """
    policy = find_policy(request.method, request.scope["path"])
    if policy is None:
        raise AccessDeniedError("path: nothing is declared about who may call this")
    if policy.access is Access.OPEN:
        return
    secret = _secret(request, policy)
    limits: Limits = request.app.state.limits
    if secret not in limits.known:
        wait = limits.failures.wait(request.state.address)
        await slow_down(
            request, policy, wait, "failures", "this address sent too many wrong ids, keys or links"
        )
    if policy.access in (Access.LINK, Access.OPERATOR):
        return
    if policy.access is Access.ORGANISATION:
        request.state.organisation = await _identified(request, policy, secret, _organisation)
        return
    find = identify_for_registration if policy.access is Access.REGISTRATION else identify_for_job
    caller = await _identified(request, policy, secret, find)
    request.state.caller = caller
    current().actor = caller.key_id
    await _respect_key(request, policy, caller)
    await _respect_role(request, policy, caller)


def _secret(request: Request, policy: Policy) -> str | None:
    """What the caller proves itself with."""
    if policy.access is Access.ORGANISATION:
        return organisation_id(request)
    if policy.access is Access.OPERATOR:
        return request.headers.get("authorization")
    if policy.access is Access.LINK:
        return request.query_params.get("token")
    return api_key(request)


def remember_link(request: Request, *links: str) -> None:
    """Remember the tokens of links that were handed out: their holders are no guessers."""
    for link in links:
        request.app.state.limits.known.add(link.partition("token=")[2])


def organisation_of(request: Request) -> int:
    """The organisation of a request that carries only its id, as the guard found out."""
    return int(request.state.organisation)


def _organisation(service: AssessmentService, request: Request) -> int:
    return service.tenants.organisation(organisation_id(request))


async def _identified(
    request: Request,
    policy: Policy,
    secret: str | None,
    find: Callable[[AssessmentService, Request], Found],
) -> Found:
    """Look the caller up in a thread; what fails is counted and noted."""
    service = service_of(request)
    limits: Limits = request.app.state.limits
    exchange = policy.access is Access.ORGANISATION

    def work() -> Found:
        try:
            return find(service, request)
        except (AccessDeniedError, UnauthenticatedError) as error:
            event = "key.exchange_refused" if exchange else "key.refused"
            service.audit.refusal(event, reason=error.message)
            raise

    try:
        found = await limits.readers.run(work)
    except (AccessDeniedError, UnauthenticatedError):
        if secret:
            limits.known.discard(secret)
        if exchange:
            metrics: Metrics = request.app.state.metrics
            metrics.exchanges_refused.labels(reason="organisation").inc()
        raise
    request.state.authenticated = True
    if secret:
        limits.known.add(secret)
    return found


async def _respect_key(request: Request, policy: Policy, caller: Caller) -> None:
    limits: Limits = request.app.state.limits
    name = str(caller.key)
    if policy.delayed:
        await _delay(request, limits.status.reserve(name, _delay_left(request)), "key")
        return
    rate = service_of(request).settings.requests_per_second
    await slow_down(
        request, policy, limits.keys.take(name), "key",
        f"expected at most {rate:g} requests per second of one key",
    )  # fmt: skip


def _delay_left(request: Request) -> float:
    return max(0.0, Limits.LONGEST_DELAY - getattr(request.state, "delayed", 0.0))


async def _delay(request: Request, wait: float, limit: str) -> None:
    wait = min(wait, _delay_left(request))
    if wait <= 0:
        return
    request.app.state.metrics.rate_limited.labels(limit=limit, action="delayed").inc()
    request.state.delayed = getattr(request.state, "delayed", 0.0) + wait
    await asyncio.sleep(wait)


async def slow_down(
    request: Request, policy: Policy | None, wait: float, limit: str, message: str
) -> None:
    """Refuse a call that came too early, or hold it back where its policy says so.

    Args:
        request: The call.
        policy: Its policy.
        wait: Seconds that it is too early; 0 lets it pass.
        limit: Which limit it is, for the metrics.
        message: What was expected.

    Raises:
        TooManyRequestsError: It came too early.
    """
    if wait <= 0:
        return
    if policy is not None and policy.delayed:
        await _delay(request, wait, limit)
        return
    request.app.state.metrics.rate_limited.labels(limit=limit, action="refused").inc()
    raise TooManyRequestsError(
        f"rate: {message}; try again in {whole_seconds(wait)} s", retry_after=wait
    )


async def _respect_role(request: Request, policy: Policy, caller: Caller) -> None:
    """Hold the role of a key against what the call needs; a refusal is noted."""
    try:
        _check_role(caller, policy)
    except AccessDeniedError as error:
        await run_in_threadpool(
            service_of(request).audit.refusal,
            "key.refused",
            organisation=caller.organisation,
            subject=caller.key_id,
            reason=f"{policy.method} {policy.path}: {error.message}",
        )
        raise


def _check_role(caller: Caller, policy: Policy) -> None:
    permission: Permission | None = policy.permission
    if permission is None or permission not in caller.role.permissions:
        needed = f"the role {Role.least(permission).value}" if permission else "another key"
        raise AccessDeniedError(
            f"x-api-key: expected a key with {needed} for this call; this one has the role "
            f"{caller.role.value}. An admin key makes others: POST /api/ais/v1.5/keys"
        )


def reserve_address(limiter: RateLimiter, address: str, policy: Policy | None) -> float:
    """Seconds that a call of an address is too early, after it was counted."""
    if policy is not None and policy.delayed:
        return limiter.reserve(address, Limits.LONGEST_DELAY)
    return limiter.take(address)
