"""What the sink says to a request, and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Question"]


@dataclass(frozen=True)
class Question:
    """One request, read whole."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One answer."""

    status: int
    """HTTP status."""
    body: Mapping[str, Any] | str | None = None
    """JSON object or text; None for an empty body, which is how the Data Collector says yes."""
    reason: str = ""
    """Why the request was refused, for people; empty where it was not."""
    events: Sequence[Mapping[str, Any]] = ()
    """The events that were accepted."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        if self.body is None or isinstance(self.body, str):
            return (self.body or "").encode()
        return json.dumps(dict(self.body)).encode()
