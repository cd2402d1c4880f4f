"""One connection to the sink."""

import contextlib
import socket
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from modelward.siem_sink.answers import Answer, Question
from modelward.siem_sink.data_collector import MOST_BYTES
from modelward.siem_sink.event_collector import HEALTH_PATH, refusal
from modelward.siem_sink.faults import Fault
from modelward.siem_sink.record import Received

__all__ = ["Handler"]


class Owner(Protocol):
    """What a handler needs of its sink."""

    ended: Any

    def now(self) -> float:
        """Seconds since 1970."""

    def next_fault(self, protocol: str) -> Fault | None:
        """Take a fault."""

    def judge(self, question: Question, fault: Fault | None) -> tuple[str, Answer]:
        """Answer a post."""

    def note(self, received: Received) -> None:
        """Keep a post."""

    def tell(self, received: Received) -> None:
        """Tell who listens."""


class Handler(BaseHTTPRequestHandler):
    """Reads posts and writes answers."""

    owner: Owner
    protocol_version = "HTTP/1.1"
    server_version = "modelward-siem-sink"
    sys_version = ""

    def log_message(self, *_arguments: object) -> None:
        """Nothing on the screen; the record has it all."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The sink's own clock, which may be wrong on purpose."""
        return formatdate(self.owner.now() if timestamp is None else timestamp, usegmt=True)

    def do_GET(self) -> None:
        """Health."""
        healthy = urlsplit(self.path).path == HEALTH_PATH
        self._write(refusal(17) if healthy else Answer(404))

    def do_POST(self) -> None:
        """Read, judge, keep, answer."""
        parts = urlsplit(self.path)
        body = self._body()
        if isinstance(body, Answer):
            question = Question(parts.path, {}, self._headers(), b"")
            self.close_connection = True
            self._finish("", question, body, None)
            return
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        question = Question(parts.path, query, self._headers(), body)
        protocol = "sentinel" if parts.path.startswith("/api/") else "splunk"
        fault = self.owner.next_fault(protocol)
        if fault is not None and fault.hang:
            silence = Answer(0, None, "left without an answer on demand")
            received = Received(protocol, question, silence, self.owner.now(), fault=True)
            self.owner.note(received)
            self.owner.ended.wait(fault.hang)
            self._hang_up()
            self.owner.tell(received)
            return
        if fault is not None and fault.status is not None:
            self._finish(protocol, question, demanded(fault, protocol), fault)
            return
        protocol, answer = self.owner.judge(question, fault)
        self._finish(protocol, question, answer, fault)

    def _finish(
        self, protocol: str, question: Question, answer: Answer, fault: Fault | None
    ) -> None:
        # Kept before it is answered: whoever has the answer finds the event in the record.
        received = Received(protocol, question, answer, self.owner.now(), fault is not None)
        self.owner.note(received)
        if fault is not None and fault.cut:
            # Before the status is out: whoever has read "200" knows enough.
            self.wfile.write(b"HTTP/1.1 2")
            self._hang_up()
        else:
            self._write(answer)
        self.owner.tell(received)

    def _headers(self) -> Mapping[str, str]:
        return {name.lower(): value.strip() for name, value in self.headers.items()}

    def _body(self) -> bytes | Answer:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return Answer(411, None, "expected the header Content-Length")
        if int(length) > 2 * MOST_BYTES:
            return Answer(413, None, f"request too large: {int(length):,} bytes")
        if self.headers.get("Content-Encoding", "identity") != "identity":
            return Answer(415, None, "compressed bodies are not supported here")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return Answer(400, None, "the connection ended in the middle of the body")
        return body

    def _write(self, answer: Answer) -> None:
        content = answer.content
        with contextlib.suppress(OSError):
            self.send_response(answer.status)
            if content:
                self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


def demanded(fault: Fault, protocol: str) -> Answer:
    """The answer that a fault asks for."""
    status = fault.status or 500
    headers = {} if fault.retry_after is None else {"Retry-After": after(fault.retry_after)}
    body: Mapping[str, Any] | str | None = fault.body
    if body is not None:
        pass
    elif protocol == "splunk" and status in (429, 500, 503):
        body = refusal({429: 26, 500: 8, 503: 9}[status]).body
    elif protocol == "sentinel" and status == 503:
        body = {"Error": "ServiceUnavailable", "Message": "Please retry your request."}
    return Answer(status, body, f"answered {status} on demand", headers=headers)


def after(value: float | str) -> str:
    """``Retry-After`` as it goes over the wire."""
    return value if isinstance(value, str) else f"{value:g}"
