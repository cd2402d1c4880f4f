"""The sink: an HTTP server on loopback that judges posts."""

import base64
import contextlib
import secrets
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from modelward.siem_sink.answers import Answer, Question
from modelward.siem_sink.data_collector import PATH, DataCollectorRules
from modelward.siem_sink.data_collector import refusal as azure_refusal
from modelward.siem_sink.event_collector import (
    ACK_PATH,
    EVENT_PATHS,
    HEALTH_PATH,
    EventCollectorRules,
)
from modelward.siem_sink.event_collector import refusal as splunk_refusal
from modelward.siem_sink.faults import Fault
from modelward.siem_sink.handler import Handler
from modelward.siem_sink.record import Received, Record

__all__ = ["LocalSink"]

SILENCE_SECONDS = 30.0
"""After which a silent connection is closed."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class LocalSink:
    """A SIEM on loopback with both protocols; starts and ends with ``with``.

    Args:
        host: Loopback address to listen on.
        port: Port; 0 picks a free one.
        workspace_id: Workspace id; a new one by default.
        shared_key: Its key, base64; a new one by default.
        token: Splunk token; a new one by default.
        acknowledge: Whether the token has indexer acknowledgement on.
        certfile: TLS certificate chain (PEM); without it plain http.
        keyfile: Its private key (PEM), where that is not in ``certfile``.
        clock: Seconds since 1970.
        on_request: Called with every post after it was answered.

    Raises:
        ValueError: ``host`` is not loopback, or an argument is malformed.
        OSError: The port is taken.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        workspace_id: str | None = None,
        shared_key: str | None = None,
        token: str | None = None,
        acknowledge: bool = False,
        certfile: str | Path | None = None,
        keyfile: str | Path | None = None,
        clock: Callable[[], float] = time.time,
        on_request: Callable[[Received], None] | None = None,
    ) -> None:
        if host not in LOOPBACK:
            raise ValueError(f"host: expected one of {', '.join(LOOPBACK)}, got {host}")
        self.workspace_id = workspace_id or str(uuid.uuid4())
        """Id of its one workspace."""
        self.shared_key = shared_key or base64.b64encode(secrets.token_bytes(64)).decode()
        """Key of that workspace, base64."""
        self.token = token or str(uuid.uuid4())
        """The one Splunk token."""
        self.skew = 0.0
        """Seconds by which its clock is ahead."""
        self.refuse_credentials = False
        """Whether to refuse even the right key and token."""
        self._clock = clock
        self._azure = DataCollectorRules(self.workspace_id, self.shared_key)
        self.splunk = EventCollectorRules(self.token, acknowledge=acknowledge)
        """Its Splunk half, for ``enabled`` and ``questions_before_ack``."""
        self._record = Record()
        self._faults: list[Fault] = []
        self._guard = threading.Lock()
        self._on_request = on_request
        self.ended = threading.Event()
        """Set when it stops, so that posts that hang are let go."""
        sink = self

        class Bound(Handler):
            owner = sink

        self._server = (Server6 if ":" in host else Server)((host, port), Bound)
        self._tls = certfile is not None
        if certfile is not None:
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(str(certfile), str(keyfile) if keyfile else None)
            except (OSError, ssl.SSLError) as error:
                self._server.server_close()
                raise ValueError(f"certfile: expected PEM with its key; {error}") from None
            self._server.tls = context
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    def __enter__(self) -> "LocalSink":
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def start(self) -> "LocalSink":
        """Begin to answer."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop, and free the port."""
        self.ended.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Address for ``azure_log_endpoint`` and ``splunk_url``."""
        host, port = self._server.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"{'https' if self._tls else 'http'}://{name}:{port}"

    @property
    def requests(self) -> list[Received]:
        """Every post, oldest first, refused ones included."""
        return self._record.requests()

    @property
    def sentinel_events(self) -> list[dict[str, Any]]:
        """Events through the Data Collector, each ``event_id`` once, in order of arrival."""
        return self._record.events("sentinel")

    @property
    def splunk_events(self) -> list[dict[str, Any]]:
        """Events through the Event Collector, each ``event_id`` once, in order of arrival."""
        return self._record.events("splunk")

    @property
    def events(self) -> list[dict[str, Any]]:
        """Events of both protocols."""
        return self.sentinel_events + self.splunk_events

    @property
    def duplicates(self) -> int:
        """How many accepted events came again, over both protocols."""
        return self._record.duplicates("sentinel") + self._record.duplicates("splunk")

    def wait(self, count: int, protocol: str = "sentinel", timeout: float = 10.0) -> bool:
        """Wait until so many different events came through a protocol; whether they did."""
        return self._record.wait(protocol, count, timeout)

    def wait_requests(self, count: int, timeout: float = 10.0) -> bool:
        """Wait until so many posts came; whether they did."""
        return self._record.wait_requests(count, timeout)

    def clear(self) -> None:
        """Forget what was received."""
        self._record.clear()

    def fail(self, **fault: Any) -> Fault:
        """Let the next posts fail: the fields of ``Fault``, such as ``times=2, status=429``."""
        made = Fault(**fault)
        with self._guard:
            self._faults.append(made)
        return made

    def clear_faults(self) -> None:
        """Judge all posts as usual from now on."""
        with self._guard:
            self._faults.clear()

    def now(self) -> float:
        """Its clock, seconds since 1970."""
        return self._clock() + self.skew

    def next_fault(self, protocol: str) -> Fault | None:
        """Take a fault for a post, where one is due."""
        with self._guard:
            for fault in self._faults:
                if fault.fits(protocol):
                    fault.times -= 1 if fault.times > 0 else 0
                    return fault
        return None

    def judge(self, question: Question, fault: Fault | None) -> tuple[str, Answer]:
        """Answer a post.

        Returns:
            Its protocol, and the answer.
        """
        protocol = protocol_of(question.path)
        with self._guard:
            if protocol and self.refuse_credentials:
                return protocol, refused_credentials(protocol)
            if question.path == PATH:
                answer = self._azure.judge(question, self.now())
            elif question.path in EVENT_PATHS:
                answer = self.splunk.judge(question)
            elif question.path == ACK_PATH:
                answer = self.splunk.judge_ack(question)
            else:
                return "", Answer(404, None, f"nothing is served at {question.path[:100]}")
        if fault is not None and fault.reject is not None:
            for number, event in enumerate(answer.events):
                if fault.reject(event):
                    return protocol, rejected_event(protocol, number)
        return protocol, answer

    def note(self, received: Received) -> None:
        """Keep what came in."""
        self._record.add(received)

    def tell(self, received: Received) -> None:
        """Tell who listens, once the sender has its answer."""
        if self._on_request is not None:
            self._on_request(received)


class Server(ThreadingHTTPServer):
    """Speaks TLS in the thread of the connection, so that a slow handshake holds nobody up."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, then answer."""
        request.settimeout(SILENCE_SECONDS)
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with contextlib.suppress(OSError), self.tls.wrap_socket(request, server_side=True) as safe:
            super().finish_request(safe, client_address)
            safe.shutdown(socket.SHUT_WR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of the sink's business."""


class Server6(Server):
    """The same on IPv6."""

    address_family = socket.AF_INET6


def protocol_of(path: str) -> str:
    """``sentinel``, ``splunk``, or nothing."""
    if path == PATH:
        return "sentinel"
    return "splunk" if path in (*EVENT_PATHS, ACK_PATH, HEALTH_PATH) else ""


def refused_credentials(protocol: str) -> Answer:
    """What a service says to a key or token that it does not know."""
    if protocol == "sentinel":
        return azure_refusal(403, "InvalidAuthorization", "The key was refused on demand.")
    return splunk_refusal(4, "refused on demand")


def rejected_event(protocol: str, number: int) -> Answer:
    """What a service says to an event that it cannot read."""
    if protocol == "sentinel":
        return azure_refusal(400, "InvalidDataFormat", "A record was refused on demand.")
    return splunk_refusal(6, "refused on demand", number)
