"""Splunk's HTTP Event Collector, as Splunk documents it.

Source: "Troubleshoot HTTP Event Collector" (error codes), "Format events for HTTP Event Collector"
and "About HTTP Event Collector Indexer Acknowledgment", help.splunk.com.
"""

import hmac
import re
from collections.abc import Mapping
from typing import Any

from modelward.siem_sink.answers import Answer, Question
from modelward.siem_sink.fields import contract_problem
from modelward.siem_sink.json_text import parse, parse_many

__all__ = ["ACK_PATH", "EVENT_PATHS", "HEALTH_PATH", "EventCollectorRules", "refusal"]

EVENT_PATHS = (
    "/services/collector",
    "/services/collector/event",
    "/services/collector/event/1.0",
)
ACK_PATH = "/services/collector/ack"
HEALTH_PATH = "/services/collector/health"
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
CODES = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    8: (500, "Internal server error"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
    16: (400, "Query string authorization is not enabled"),
    17: (200, "HEC is healthy"),
    26: (429, "HEC queue at capacity"),
}
"""Code of the body -> HTTP status and text."""
ENVELOPE = {
    "time": (int, float, str),
    "host": (str,),
    "source": (str,),
    "sourcetype": (str,),
    "index": (str,),
    "fields": (dict,),
    "event": (dict, str),
}
SOURCETYPE = "AIShield"
INDEX = "main"


def refusal(code: int, detail: str = "", number: int | None = None) -> Answer:
    """An error in the service's form.

    Args:
        code: One of ``CODES``.
        detail: For people; Splunk itself does not say more.
        number: Which event of the batch, from 0.
    """
    status, text = CODES[code]
    body: dict[str, Any] = {"text": text, "code": code}
    at = ""
    if number is not None:
        body["invalid-event-number"] = number
        at = f" (event {number})"
    return Answer(status, body, f"{text}{at}" + (f": {detail}" if detail else ""))


class EventCollectorRules:
    """Judges posts with one token.

    Args:
        token: The token.
        acknowledge: Whether the token has indexer acknowledgement on.
    """

    def __init__(self, token: str, *, acknowledge: bool = False) -> None:
        self._token = token
        self.acknowledge = acknowledge
        self.enabled = True
        """False: the token exists and is switched off."""
        self.questions_before_ack = 0
        """How many questions about an id are answered false before it is acknowledged."""
        self._asked: dict[tuple[str, int], int] = {}
        self._next: dict[str, int] = {}

    def judge(self, question: Question) -> Answer:
        """Answer one post of events."""
        refused = self._sender(question)
        if refused is not None:
            return refused
        channel = self._channel(question)
        if isinstance(channel, Answer):
            return channel
        values, trouble = parse_many(question.body)
        events: list[Mapping[str, Any]] = []
        for number, value in enumerate(values):
            problem = event_problem(value, number)
            if problem is not None:
                return problem
            events.append(value["event"])
        if trouble:
            return refusal(6, trouble[:200], len(values))
        if not events:
            return refusal(5)
        body: dict[str, Any] = {"text": "Success", "code": 0}
        if channel:
            number = self._next.get(channel, 0)
            self._next[channel] = number + 1
            self._asked[channel, number] = 0
            body["ackId"] = number
        return Answer(200, body, events=events)

    def judge_ack(self, question: Question) -> Answer:
        """Answer a question about acknowledgements."""
        refused = self._sender(question)
        if refused is not None:
            return refused
        if not self.acknowledge:
            return refusal(14)
        channel = self._channel(question)
        if isinstance(channel, Answer):
            return channel
        try:
            asked = parse(question.body)["acks"]
            numbers = [number for number in asked if type(number) is int]
        except (ValueError, TypeError, KeyError, RecursionError):
            return refusal(6)
        if len(numbers) != len(asked):
            return refusal(6)
        return Answer(200, {"acks": {str(n): self._acknowledged(channel, n) for n in numbers}})

    def _acknowledged(self, channel: str, number: int) -> bool:
        """Once true, the id is forgotten, as Splunk does."""
        times = self._asked.get((channel, number))
        if times is None:
            return False
        if times >= self.questions_before_ack:
            del self._asked[channel, number]
            return True
        self._asked[channel, number] = times + 1
        return False

    def _sender(self, question: Question) -> Answer | None:
        given = question.headers.get("authorization")
        if "token" in question.query:
            return refusal(16)
        if not given:
            return refusal(2)
        scheme, _, token = given.partition(" ")
        if scheme != "Splunk" or not token or token != token.strip():
            return refusal(3, "expected the header Authorization: Splunk <token>")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return refusal(4)
        return None if self.enabled else refusal(1)

    def _channel(self, question: Question) -> str | Answer:
        given = question.headers.get("x-splunk-request-channel") or question.query.get("channel")
        if given and not GUID.fullmatch(given):
            return refusal(11)
        if not self.acknowledge:
            return ""
        return given or refusal(10)


def event_problem(value: Any, number: int) -> Answer | None:
    """What is wrong with one event object of a batch."""
    if not isinstance(value, dict):
        return refusal(6, "expected an object", number)
    if "event" not in value:
        return refusal(12, number=number)
    if value["event"] in ("", None, {}):
        return refusal(13, number=number)
    if value.get("index", INDEX) != INDEX:
        return refusal(7, number=number)
    problem = envelope_problem(value) or contract_problem(value["event"])
    return refusal(6, problem, number) if problem else None


def envelope_problem(value: Mapping[str, Any]) -> str:
    """What is wrong around the event, or nothing."""
    for name, content in value.items():
        if name not in ENVELOPE:
            return f"unknown key {name[:60]!r}"
        if isinstance(content, bool) or not isinstance(content, ENVELOPE[name]):
            return f"{name}: wrong type"
    if not time_is_number(value.get("time", 0)):
        return "time: expected seconds since 1970"
    if value.get("sourcetype") != SOURCETYPE:
        return f"sourcetype: expected {SOURCETYPE}"
    return ""


def time_is_number(value: Any) -> bool:
    """Whether ``time`` can be read as seconds."""
    try:
        return 0 <= float(value) < 1e11
    except ValueError:
        return False
