"""What a SIEM does on bad days, on demand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Fault"]


@dataclass
class Fault:
    """How the next posts fail. The first fault that fits a post and is not used up counts.

    Without ``status``, ``hang`` and ``cut`` a post is judged as usual.
    """

    times: int = 1
    """How many posts fail; -1 for all until ``clear_faults``."""
    protocol: str = ""
    """``sentinel`` or ``splunk``; both where empty."""
    status: int | None = None
    """Answer this and keep nothing."""
    retry_after: float | str | None = None
    """``Retry-After`` of that answer: seconds, or a text as it is."""
    hang: float = 0.0
    """Say nothing for so many seconds, then hang up and keep nothing."""
    cut: bool = False
    """Judge and keep, then close the connection in the middle of the answer."""
    reject: Callable[[Mapping[str, Any]], bool] | None = None
    """Refuse posts with an event for which this is true, as malformed."""
    body: str | None = None
    """Body of the answer with ``status``."""

    def fits(self, protocol: str) -> bool:
        """Whether it is for this protocol and not used up."""
        return self.times != 0 and self.protocol in ("", protocol)
