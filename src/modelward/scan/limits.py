"""How much a scan may unpack, walk and wait, so that a hostile file cannot occupy it."""

import time
from dataclasses import dataclass

__all__ = ["Budget", "LimitReachedError", "Limits", "UnreadableError"]


class UnreadableError(Exception):
    """A part cannot be read; it ends as an error, never as clean."""


class LimitReachedError(UnreadableError):
    """A limit of the scan was reached; what lies behind it was not looked at."""


@dataclass(frozen=True)
class Limits:
    """Limits of one scan; what lies behind a limit is reported as not read."""

    depth: int = 8
    """Archives inside archives."""
    files: int = 100_000
    """Files and archive members in all."""
    unpacked_bytes: int = 16 * 2**30
    """Bytes that archives and compressed streams may unpack to in all."""
    ratio: int = 1100
    """Largest compression ratio of one stream above ``allowance``; zlib reaches 1032."""
    allowance: int = 100 * 2**20
    """Bytes that one stream may unpack to whatever its ratio."""
    opcodes: int = 50_000_000
    """Pickle opcodes in all."""
    nodes: int = 5_000_000
    """Nodes of graphs, messages and configurations in all."""
    seconds: float = 600.0
    """Wall time."""
    second_opinion: bool = True
    """Ask fickling, where it is installed, about every small pickle."""


class Budget:
    """What is left of the limits while a scan runs."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._spent: dict[str, int] = {}
        self._deadline = time.monotonic() + limits.seconds

    def spend(self, what: str, amount: int = 1) -> None:
        """Take from one limit.

        Args:
            what: Name of an integer field of ``Limits``.
            amount: How much.

        Raises:
            LimitReachedError: The limit, or the time, is used up.
        """
        spent = self._spent.get(what, 0) + amount
        self._spent[what] = spent
        allowed = getattr(self.limits, what)
        if spent > allowed:
            raise LimitReachedError(f"the scan's limit of {allowed} {what} is reached")
        self.tick()

    def tick(self) -> None:
        """Look at the clock.

        Raises:
            LimitReachedError: The time is used up.
        """
        if time.monotonic() > self._deadline:
            raise LimitReachedError(f"the scan's {self.limits.seconds:g} seconds are used up")
