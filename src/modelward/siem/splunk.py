"""Splunk through its HTTP Event Collector."""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from modelward.siem.transport import Outcome, Poster, checked_url, is_page, masked, refused, told

__all__ = ["SplunkCollector"]

EVENT_PATH = "/services/collector/event"
ACK_PATH = "/services/collector/ack"
BAD_DATA_CODES = frozenset({5, 6, 12, 13, 15})
"""HEC codes that speak of the events: no data, invalid format, event field missing or blank, ..."""
TOKEN_CODES = frozenset({1, 2, 3, 4})
NO_CHANNEL, NO_ACK = 10, 14


class SplunkCollector:
    """Sends events to an HTTP Event Collector.

    Args:
        url: Address of the collector; ``/services/collector/event`` is appended where only scheme,
            host and port are given.
        authorization: Token, with or without the word ``Splunk`` before it.
        ca_bundle: PEM file of authorities to trust instead of the system's.
        allow_http: Whether plain http may leave this machine.
        acknowledge: Wait until the indexers confirm (the token must have acknowledgement on).
        acknowledge_seconds: How long to wait for that.
        source: ``source`` of the events.
        poster: Replaces the HTTP client.
        wait: Sleeps so many seconds between questions for the confirmation.

    Raises:
        ValueError: An argument is malformed; the message names it and never shows the token.
    """

    name = "splunk"

    def __init__(
        self,
        url: str,
        authorization: str,
        *,
        ca_bundle: str | None = None,
        allow_http: bool = False,
        acknowledge: bool = False,
        acknowledge_seconds: float = 60.0,
        source: str = "modelward",
        poster: Poster | None = None,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        base = checked_url("splunk_url", url, allow_http=allow_http)
        parts = urlsplit(base)
        self._url = base if parts.path else base + EVENT_PATH
        self._ack_url = f"{parts.scheme}://{parts.netloc}{ACK_PATH}"
        words = str(authorization).split()
        if len(words) == 2 and words[0].lower() == "splunk":
            words = words[1:]
        if len(words) != 1 or not words[0].isascii() or not words[0].isprintable():
            raise ValueError(
                "authorization: expected a Splunk HEC token, with or without the word Splunk "
                "before it"
            )
        self._token = words[0]
        self._channel = str(uuid.uuid4()) if acknowledge else None
        self._acknowledge_seconds = acknowledge_seconds
        self._source = source
        self._poster = poster or Poster(ca_bundle)
        self._wait = wait

    def __repr__(self) -> str:
        return f"SplunkCollector({self._url!r})"

    def send(self, events: Sequence[dict[str, Any]]) -> Outcome:
        """Send a batch once, as concatenated event objects.

        Args:
            events: What ``Event.fields`` gives.
        """
        return masked(self._sent(events), self._token)

    def _sent(self, events: Sequence[dict[str, Any]]) -> Outcome:
        body = "\n".join(json.dumps(self._wrapped(e), ensure_ascii=False) for e in events)
        reply = self._poster.post(self._url, body.encode("utf-8", "replace"), self._headers())
        answer = json_object(reply.body)
        code = answer.get("code")
        if reply.status == 200 and code in (0, None) and not is_page(reply):
            if self._channel is None or "ackId" not in answer:
                return Outcome("accepted")
            return self._confirmed(answer["ackId"])
        if code == NO_CHANNEL and self._channel is None:
            # The token wants acknowledgement, so it shall have it.
            self._channel = str(uuid.uuid4())
            return Outcome("retry", "Splunk wants a channel for acknowledgement; now it has one", 0)
        if reply.status == 400 and code in BAD_DATA_CODES:
            at = answer.get("invalid-event-number")
            known = isinstance(at, int) and 0 <= at < len(events)
            ids = (str(events[int(str(at))].get("event_id")),) if known else ()
            return Outcome(
                "rejected",
                f"Splunk answered 400 {told(str(answer.get('text')))} (code {code})",
                None,
                ids,
            )
        if code in TOKEN_CODES:
            return refused(reply._replace(status=403), "Splunk", "check authorization")
        return refused(reply, "Splunk", "check authorization")

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Authorization": f"Splunk {self._token}"}
        if self._channel is not None:
            headers["X-Splunk-Request-Channel"] = self._channel
        return headers

    def _wrapped(self, event: dict[str, Any]) -> dict[str, Any]:
        return {
            "time": seconds_of(event.get("timestamp")),
            "host": event.get("Computer") or event.get("source_name") or "unknown",
            "source": self._source,
            "sourcetype": "AIShield",
            "event": event,
        }

    def _confirmed(self, ack_id: object) -> Outcome:
        question = json.dumps({"acks": [ack_id]}).encode()
        url = f"{self._ack_url}?channel={self._channel}"
        pause = 0.2
        waited = 0.0
        while True:
            answer = json_object(self._poster.post(url, question, self._headers()).body)
            if answer.get("code") == NO_ACK:
                return Outcome("accepted")
            acks = answer.get("acks")
            if isinstance(acks, dict) and acks.get(str(ack_id)) is True:
                return Outcome("accepted")
            if waited >= self._acknowledge_seconds:
                return Outcome(
                    "retry",
                    f"Splunk took the events but did not acknowledge them within "
                    f"{self._acknowledge_seconds:g} s",
                )
            self._wait(pause)
            waited += pause
            pause = min(2.0, pause * 2)


def json_object(text: str) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def seconds_of(timestamp: object) -> float:
    """Seconds since 1970 of an ISO 8601 time; now where it is none."""
    try:
        return round(datetime.fromisoformat(str(timestamp).replace("Z", "+00:00")).timestamp(), 3)
    except ValueError:
        return round(time.time(), 3)
