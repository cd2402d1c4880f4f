"""What came in, for whoever wants to look while more comes in."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelward.siem_sink.answers import Answer, Question

__all__ = ["Received", "Record"]


@dataclass(frozen=True)
class Received:
    """One post and what it was told."""

    protocol: str
    """``sentinel`` or ``splunk``; empty where the path belongs to neither."""
    question: Question
    answer: Answer
    at: float
    """Seconds since 1970, by the sink's clock."""
    fault: bool = False
    """Whether it failed on demand."""

    @property
    def accepted(self) -> bool:
        """Whether its events were kept."""
        return bool(self.answer.events)


class Record:
    """Everything received; safe for threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: list[Received] = []
        self._events: dict[str, list[Mapping[str, Any]]] = {"sentinel": [], "splunk": []}
        self._times: dict[str, Counter[str]] = {"sentinel": Counter(), "splunk": Counter()}

    def add(self, received: Received) -> None:
        """Keep a post; an event is kept once per protocol, by its ``event_id``."""
        with self._changed:
            self._requests.append(received)
            for event in received.answer.events:
                name = str(event.get("event_id") or f"without-id-{len(self._requests)}")
                times = self._times[received.protocol]
                times[name] += 1
                if times[name] == 1:
                    self._events[received.protocol].append(event)
            self._changed.notify_all()

    def requests(self) -> list[Received]:
        """All posts, oldest first."""
        with self._changed:
            return list(self._requests)

    def events(self, protocol: str) -> list[dict[str, Any]]:
        """Events of a protocol, each once, in the order of their first arrival."""
        with self._changed:
            return [dict(event) for event in self._events[protocol]]

    def duplicates(self, protocol: str) -> int:
        """How many arrivals were repetitions."""
        with self._changed:
            return sum(n - 1 for n in self._times[protocol].values())

    def wait(self, protocol: str, count: int, timeout: float) -> bool:
        """Wait until so many different events are there."""
        end = time.monotonic() + timeout
        with self._changed:
            while len(self._events[protocol]) < count:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def wait_requests(self, count: int, timeout: float) -> bool:
        """Wait until so many posts were answered or failed."""
        end = time.monotonic() + timeout
        with self._changed:
            while len(self._requests) < count:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._requests.clear()
            for protocol in self._events:
                self._events[protocol].clear()
                self._times[protocol].clear()
