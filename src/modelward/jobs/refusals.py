"""Counts refusals, so that a flood of them becomes one event a minute."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Refusals", "Tally"]

_WINDOW_SECONDS = 60.0
_MOST_SOURCES = 1_000
"""Addresses told apart within one window; an attacker can have any number."""


@dataclass
class Tally:
    """Refusals of one kind that make one event."""

    kind: str
    reason: str = ""
    """Of the first one."""
    count: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    models: set[str] = field(default_factory=set)

    def add(self, source: str, model_id: str, reason: str) -> None:
        """One more."""
        self.reason = self.reason or reason
        self.count += 1
        if source in self.sources or len(self.sources) < _MOST_SOURCES:
            self.sources[source] += 1
        if model_id and len(self.models) < 2:
            self.models.add(model_id)

    @property
    def source(self) -> str:
        """The address that was refused most often."""
        return self.sources.most_common(1)[0][0] if self.sources else ""

    @property
    def model_id(self) -> str:
        """The model, where all were about the same."""
        return next(iter(self.models)) if len(self.models) == 1 else ""


class Refusals:
    """At most one event a minute for each kind: the first at once, the others counted.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._open: dict[str, tuple[float, Tally]] = {}
        """Kind -> end of its minute, what was counted in it."""

    def note(self, kind: str, *, source: str, model_id: str, reason: str) -> Tally | None:
        """Count one refusal.

        Returns:
            It, where it is the first after a quiet minute; None where it was counted.
        """
        with self._guard:
            if kind in self._open:
                self._open[kind][1].add(source, model_id, reason)
                return None
            self._open[kind] = (self._clock() + _WINDOW_SECONDS, Tally(kind))
        first = Tally(kind)
        first.add(source, model_id, reason)
        return first

    def due(self, *, all_of_them: bool = False) -> list[Tally]:
        """What was counted in minutes that are over; with ``all_of_them``, in all of them."""
        now = self._clock()
        done = []
        with self._guard:
            for kind, (end, tally) in list(self._open.items()):
                if now < end and not all_of_them:
                    continue
                del self._open[kind]
                if tally.count:
                    done.append(tally)
                    self._open[kind] = (now + _WINDOW_SECONDS, Tally(kind))
        return done
