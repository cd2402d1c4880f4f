"""Who may make which call: the one table, and deny by default.

A route that is not in the table is refused when it is called, and an app that has one does not
start.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import FastAPI
from starlette.routing import compile_path

from modelward.jobs import BASE_PATH, Permission

__all__ = ["Access", "Policy", "check_policies", "find_policy", "served_routes"]


class Access(StrEnum):
    """What opens a route."""

    OPEN = "open"
    """Nothing is needed."""
    OPERATOR = "operator"
    """Called from this machine, or with the token of the setting; checked by the route."""
    LINK = "link"
    """A signed token in the address; checked by the route for its own subject."""
    ORGANISATION = "organisation"
    """The organisation id alone."""
    REGISTRATION = "registration"
    """Organisation id and key; 401 where they are wrong."""
    KEY = "key"
    """A key, with a matching organisation id where one is sent; 403 where it is wrong."""


@dataclass(frozen=True)
class Policy:
    """Who may call a route, and how it is slowed down."""

    method: str
    path: str
    """Template, as in the OpenAPI document."""
    access: Access
    permission: Permission | None = None
    """What the role of the key must hold; needed with REGISTRATION and KEY."""
    delayed: bool = False
    """Too frequent calls are answered late and never with 429."""
    limited: bool = True
    """Whether calls count against the rate of their address."""


def _api(method: str, path: str, access: Access, *rest: Any, **more: Any) -> Policy:
    return Policy(method, BASE_PATH + path, access, *rest, **more)


_READ, _SUBMIT, _MANAGE = Permission.READ, Permission.SUBMIT, Permission.MANAGE

POLICIES: tuple[Policy, ...] = (
    _api("GET", "/get_aws_api_key", Access.ORGANISATION),
    _api("POST", "/model_registration/upload", Access.REGISTRATION, _SUBMIT),
    _api("PUT", "/upload/{model_id}/{slot}", Access.LINK),
    _api("POST", "/upload/{model_id}/{slot}", Access.LINK),
    _api("POST", "/model_analyse/{model_id}", Access.KEY, _SUBMIT),
    # Existing clients read the stages without looking at the status code: a 429 would kill them.
    _api("GET", "/job_status_detailed", Access.KEY, _READ, delayed=True),
    _api("GET", "/job_detail", Access.KEY, _READ),
    _api("GET", "/get_report", Access.KEY, _READ),
    _api("POST", "/supplychain", Access.KEY, _SUBMIT),
    _api("POST", "/generate_model_id", Access.KEY, _SUBMIT),
    _api("DELETE", "/jobs/{job_id}", Access.KEY, _SUBMIT),
    _api("DELETE", "/models/{model_id}", Access.KEY, _SUBMIT),
    _api("GET", "/keys", Access.KEY, _MANAGE),
    _api("POST", "/keys", Access.KEY, _MANAGE),
    _api("DELETE", "/keys/{key_id}", Access.KEY, _MANAGE),
    _api("POST", "/keys/{key_id}/rotate", Access.KEY, _MANAGE),
    Policy("GET", "/jobs/{job_id}", Access.LINK),
    Policy("GET", "/jobs/{job_id}/files/{report}", Access.LINK),
    Policy("GET", "/", Access.OPEN),
    Policy("GET", "/docs", Access.OPEN),
    Policy("GET", "/docs/oauth2-redirect", Access.OPEN),
    Policy("GET", "/redoc", Access.OPEN),
    Policy("GET", "/openapi.json", Access.OPEN),
    Policy("GET", "/static/{path:path}", Access.OPEN),
    Policy("GET", "/static-offline-docs/{path:path}", Access.OPEN),
    Policy("GET", "/health", Access.OPEN, limited=False),
    Policy("GET", "/healthz", Access.OPEN, limited=False),
    Policy("GET", "/readyz", Access.OPEN, limited=False),
    Policy("GET", "/metrics", Access.OPERATOR),
)
_COMPILED = tuple((compile_path(policy.path)[0], policy) for policy in POLICIES)


def find_policy(method: str, path: str) -> Policy | None:
    """The policy of a request; HEAD counts as GET. None where nothing is declared."""
    wanted = "GET" if method == "HEAD" else method
    for pattern, policy in _COMPILED:
        if policy.method == wanted and pattern.fullmatch(path):
            return policy
    return None


def served_routes(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path template) of every route, those of included routers and mounts too."""
    for route in routes:
        if hasattr(route, "effective_candidates"):
            yield from served_routes(route.effective_candidates())
        elif getattr(route, "methods", None):
            for method in sorted(route.methods - {"HEAD"}):
                yield method, prefix + route.path
        elif (path := getattr(route, "path", None)) is not None:
            yield "GET", f"{prefix}{path}/{{path:path}}"


def check_policies(app: FastAPI) -> None:
    """Refuse an app with a route that nobody decided about.

    Raises:
        RuntimeError: Names the routes without a policy, or policies without a permission.
    """
    declared = {(policy.method, policy.path) for policy in POLICIES}
    forgotten = sorted(set(served_routes(app.routes)) - declared)
    if forgotten:
        names = ", ".join(f"{method} {path}" for method, path in forgotten)
        raise RuntimeError(f"expected a policy for every route in api/policy.py; none for {names}")
    for policy in POLICIES:
        keyed = policy.access in (Access.KEY, Access.REGISTRATION)
        if keyed != (policy.permission is not None):
            raise RuntimeError(
                f"policy of {policy.method} {policy.path}: expected a permission exactly where a "
                "key is asked for"
            )
