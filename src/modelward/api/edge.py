"""Outermost layer: request ids, safe headers, rates and pace, and any path prefix of a proxy."""

import logging
import re
import secrets
import time
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelward.api.addresses import Proxies, bucket
from modelward.api.errors import domain_response, error_response, unexpected_response
from modelward.api.guard import reserve_address, slow_down
from modelward.api.headers import docs_policy, secure
from modelward.api.limits import Limits
from modelward.api.metrics import Metrics
from modelward.api.pace import Pace
from modelward.api.policy import Access, Policy, find_policy
from modelward.domain import ModelwardError
from modelward.jobs import BASE_PATH, RequestContext, acting
from modelward.settings import Settings

__all__ = ["Edge"]

_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_GUESSABLE = frozenset(Access) - {Access.OPEN}
_REFUSED = (401, 403)
_DOCS = ("/docs", "/docs/oauth2-redirect", "/redoc")


class Edge:
    """ASGI middleware.

    The API answers below any prefix (``/prod/api/ais/v1.5/...``), the pages also below the path
    of the public URL.
    """

    def __init__(self, app: ASGIApp, settings: Settings, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._limits = limits
        self._metrics = metrics
        self._proxies = Proxies(settings.trusted_proxies)
        self._prefix = urlsplit(settings.base_url).path.rstrip("/")
        self._tls = urlsplit(settings.base_url).scheme == "https"

    def _strip(self, path: str) -> str:
        start = path.find(BASE_PATH + "/")
        if start > 0:
            return path[start:]
        if self._prefix and path.startswith(self._prefix + "/"):
            return path[len(self._prefix) :]
        return path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a clean path, and its answer with headers added."""
        if scope["type"] != "http":
            await self._app(scope, receive, _in_own_words(scope, send))
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        peer = scope["client"][0] if scope.get("client") else "unknown"
        address = self._proxies.client(peer, headers.getlist("x-forwarded-for"))
        path = self._strip(scope["path"])
        policy = find_policy(scope["method"], path)
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, address=bucket(address))
        context = RequestContext(
            request_id=request_id,
            address=address,
            actor="link" if policy and policy.access is Access.LINK else "anonymous",
            route=policy.path if policy else "unmatched",
        )
        docs = policy is not None and policy.path in _DOCS
        method = _method_served(scope["method"], policy)
        head = scope["method"] == "HEAD"
        answer = _Answer(send, request_id, tls=self._tls, docs=docs, head=head)
        began = time.perf_counter()
        with acting(context):
            try:
                request = Request({**scope, "path": path, "method": method}, receive)
                await self._pass(request, policy, answer)
            finally:
                self._count(scope["method"], context.route, answer.status, began)
        if policy is not None and policy.access is Access.LINK and answer.status < 400:
            self._limits.known.add(QueryParams(scope["query_string"]).get("token", ""))
        if policy is not None and policy.access in _GUESSABLE and answer.status in _REFUSED:
            if not state.get("authenticated"):
                self._limits.failures.take(state["address"])

    async def _pass(self, request: Request, policy: Policy | None, answer: "_Answer") -> None:
        scope = request.scope
        # Measured here too: what arrives in one piece is never incomplete for the connection.
        size = _request_line(scope) + sum(len(n) + len(v) + 4 for n, v in scope["headers"])
        if size > self._settings.header_max_bytes:
            message = (
                f"header: expected at most {self._settings.header_max_bytes} bytes; got {size}"
            )
            await error_response(request, 431, message, {"Connection": "close"})(
                scope, request.receive, answer
            )
            return
        try:
            if policy is None or policy.limited:
                rate = self._settings.address_requests_per_second
                wait = reserve_address(self._limits.addresses, request.state.address, policy)
                await slow_down(
                    request, policy, wait, "address",
                    f"expected at most {rate:g} requests per second of one address",
                )  # fmt: skip
        except ModelwardError as error:
            await domain_response(request, error)(scope, request.receive, answer)
            return
        pace = Pace(
            request.receive,
            least=self._settings.body_min_bytes_per_second,
            window=self._settings.body_window_seconds,
        )
        try:
            await self._app(scope, pace, answer)
        except Exception as error:
            # Here and not further out, so that this answer has the headers of all others.
            _LOG.exception("request failed unexpectedly")
            if answer.started:
                raise
            await unexpected_response(request, error)(scope, request.receive, answer)

    def _count(self, method: str, route: str, status: int, began: float) -> None:
        known = method if method in ("GET", "HEAD", "POST", "PUT", "DELETE") else "other"
        self._metrics.requests.labels(route=route, method=known, status=str(status)).inc()
        self._metrics.seconds.labels(route=route).observe(time.perf_counter() - began)


def _in_own_words(scope: Scope, send: Send) -> Send:
    """A start that was refused with a message of ours is told by it, not by a traceback."""

    async def told(message: Message) -> None:
        refused: ModelwardError | None = scope["app"].state.start_refused
        if message["type"] == "lifespan.startup.failed" and refused is not None:
            message = {**message, "message": refused.message}
        await send(message)

    return told


def _request_line(scope: Scope) -> int:
    """Bytes of ``METHOD target HTTP/1.1`` with its line break."""
    target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    return len(scope["method"]) + target + len("  HTTP/1.1\r\n") + bool(scope["query_string"])


def _method_served(method: str, policy: Policy | None) -> str:
    """HEAD is served by the route of GET, but not where that makes something: a key."""
    makes = policy is None or policy.access is Access.ORGANISATION
    return "GET" if method == "HEAD" and not makes else method


class _Answer:
    """Wraps ``send``: adds headers, remembers the status, leaves the body of HEAD out."""

    def __init__(self, send: Send, request_id: str, *, tls: bool, docs: bool, head: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._tls = tls
        self._docs = docs
        self._head = head
        self._held: Message | None = None
        self._complete = False
        self.started = False
        self.status = 499
        """What was sent; nothing where the client went away before."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            MutableHeaders(scope=message)["X-Request-Id"] = self._request_id
            if self._docs:
                # The policy names the scripts of the page, which comes with the next message.
                self._held = message
                return
            secure(MutableHeaders(scope=message), tls=self._tls)
        elif self._held is not None:
            start, self._held = self._held, None
            headers = MutableHeaders(scope=start)
            headers["Content-Security-Policy"] = docs_policy(message.get("body", b"").decode())
            secure(headers, tls=self._tls)
            await self._send(start)
        if self._head and message["type"] == "http.response.body":
            if self._complete:
                return
            # The answer is over: the server tells so to whoever would stream a file into it.
            self._complete = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)
