"""How much a scan may unpack, walk and wait, so that a hostile file cannot occupy it."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Budget", "LimitReachedError", "Limits", "UnreadableError", "count_of"]


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

    @classmethod
    def of_path(cls, path: Path, seconds: float | None = None) -> "Limits":
        """The defaults, lowered for a small target, which is not to occupy a scan for long.

        Args:
            path: A file, or a folder, of which the files count together.
            seconds: Wall time; None: by the size, 40 seconds and 2 more for every MiB.
        """
        size = _size_of(path)
        by_size = 40 + 2 * size / 2**20
        return cls(
            unpacked_bytes=min(cls.unpacked_bytes, 2**30 + 100 * size),
            seconds=min(cls.seconds, by_size) if seconds is None else seconds,
        )


def _size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is nothing."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    size = 0
    for where, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # a link to nowhere
                size += Path(where, name).stat().st_size
    return size


def count_of(shape: Iterable[int]) -> int:
    """Values of an array, up to more than any array has.

    A shape of a million dimensions has a product that takes hours to multiply.
    """
    count = 1
    for side in shape:
        if count > _MOST_VALUES:
            count = _MOST_VALUES if side else 0
        count *= side
    return count


_MOST_VALUES = 2**64


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
