"""Connections: how many one address may hold, and how long they may keep the service waiting.

uvicorn reads requests with h11; this adds what it leaves open: a header that trickles in, an
answer that nobody reads, and one address that takes all connections.
"""

import asyncio
import json
import logging
import secrets
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from starlette.datastructures import MutableHeaders
from uvicorn.protocols.http.h11_impl import H11Protocol

from modelward.api.addresses import Proxies, bucket
from modelward.api.headers import secure
from modelward.jobs import RequestContext, acting
from modelward.settings import Settings

__all__ = ["guarded_protocol"]

_LOG = logging.getLogger(__name__)
_REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large",
            503: "Service Unavailable"}  # fmt: skip


def _raw_answer(status: int, message: str, request_id: str) -> bytes:
    """A whole answer, for connections on which no request was read."""
    body = json.dumps(
        {"message": message, "detail": message, "error": _REASONS[status], "request_id": request_id}
    ).encode()
    headers = MutableHeaders(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Request-Id": request_id,
        }
    )
    if status == 503:
        headers["Retry-After"] = "5"
    secure(headers, tls=False)
    lines = [b"%s: %s\r\n" % pair for pair in headers.raw]
    start = f"HTTP/1.1 {status} {_REASONS[status]}\r\n".encode()
    return b"".join([start, *lines, b"\r\n", body])


class _Shared:
    """What the connections of one server have in common."""

    def __init__(self, settings: Settings, refused: Callable[[str], None]) -> None:
        self.settings = settings
        self.refused = refused
        self.proxies = Proxies(settings.trusted_proxies)
        self.held: Counter[str] = Counter()


class GuardedProtocol(H11Protocol):
    """One connection."""

    shared: ClassVar[_Shared]
    """Of all connections of a server; set by ``guarded_protocol``."""

    _address: str | None = None
    _ended = False
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = self.client[0] if self.client else "unknown"
        if not self.shared.proxies.trusts(peer):
            self._address = bucket(peer)
            self.shared.held[self._address] += 1
            if self.shared.held[self._address] > self.shared.settings.connections_per_address:
                self._end(503, "connections", "connections: this address holds too many")
                return
        if len(self.connections) > self.shared.settings.max_connections:
            self._end(503, "all_connections", "connections: the service holds too many")
            return
        self._watch_header()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timers()
        if self._address is not None:
            self.shared.held[self._address] -= 1
            if self.shared.held[self._address] <= 0:
                del self.shared.held[self._address]
            self._address = None

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        super().data_received(data)
        self._watch_header()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(
            self.shared.settings.body_window_seconds, self._answer_unread
        )

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        waiting = len(self.conn.trailing_data[0])
        if waiting > self.shared.settings.header_max_bytes:
            most = self.shared.settings.header_max_bytes
            self._end(431, "header", f"header: expected at most {most} bytes; got more")
        else:
            self._end(400, "malformed", f"request: expected HTTP/1.1; {msg}")

    def _watch_header(self) -> None:
        """Keep the timer running exactly while a header is on its way."""
        idle = self.cycle is None or self.cycle.response_complete
        if self._ended or not idle or self.transport.is_closing():
            self._stop_header_timer()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(
                self.shared.settings.header_timeout_seconds, self._header_late
            )

    def _header_late(self) -> None:
        self._header_timer = None
        # The answer came meanwhile: uvicorn's own timer for idle connections is running.
        if self.timeout_keep_alive_task is None:
            seconds = self.shared.settings.header_timeout_seconds
            self._end(408, "header", f"header: expected to be complete within {seconds:g} s")

    def _answer_unread(self) -> None:
        self.shared.refused("unread")
        # close() would wait for the buffer, which nobody empties.
        self.transport.abort()

    def _end(self, status: int, limit: str, message: str) -> None:
        self.shared.refused(limit)
        self._ended = True
        self._stop_header_timer()
        self._unset_keepalive_if_required()
        if self._answered():
            self.transport.close()
        if not self.transport.is_closing():
            request_id = secrets.token_hex(8)
            with acting(RequestContext(request_id=request_id, address=self._address or "")):
                _LOG.info("connection ended with %d: %s", status, message)
            self.transport.write(_raw_answer(status, message, request_id))
            self.transport.close()

    def _answered(self) -> bool:
        """Whether the request at hand has its answer, or a part of one: a second would confuse."""
        cycle = self.cycle
        if cycle is None or not cycle.response_started:
            return False
        return not cycle.response_complete or bool(cycle.more_body)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_timers(self) -> None:
        self._stop_header_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()


def guarded_protocol(settings: Settings, refused: Callable[[str], None]) -> type[H11Protocol]:
    """The protocol class for one server.

    Args:
        settings: Effective settings.
        refused: Called with the name of the limit for each connection that was ended by one.
    """
    return type("Guarded", (GuardedProtocol,), {"shared": _Shared(settings, refused)})
