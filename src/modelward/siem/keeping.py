"""Where events wait: on disk, and in memory where the disk does not work."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from modelward.siem.spool import Spool, SpoolBusy
from modelward.siem.spool_link import LOCK_SECONDS, PATIENCE_SECONDS

__all__ = ["Keeper"]

KEEPER_LOG = logging.getLogger("modelward.siem")
LOCKED_SECONDS = 5.0
"""How long a foreign lock on the spool is waited for before events are sent from memory."""
MEMORY_BYTES = 64 << 20
"""Largest size of the queue in memory, and of the spool there."""
FIRST_SECONDS = 1.0
"""Longest wait for the spool with the first event of a process. Opening it takes its time anyway,
and a forked worker that ends right after its call has no thread that brings memory to disk."""
DRAIN_SECONDS = 0.1
"""How long the background waits for the spool to take one call from the queue."""


class Keeper:
    """Takes events in, counts them, and hands out the spools that hold them.

    Args:
        names: Sinks that want the events.
        path: File of the spool.
        capacity: Most events on disk.
        memory: Most events in memory.
        most_bytes: Largest size of the spool.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        names: Sequence[str],
        path: Path,
        *,
        capacity: int,
        memory: int,
        most_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._names, self._path, self._clock = list(names), path, clock
        self._capacity, self._memory_most, self._most_bytes = capacity, memory, most_bytes
        self.submitted = self.dropped = self.overflowed = 0
        self.spool: Spool | None = None
        """The one on disk, where it can be used."""
        self._memory: Spool | None = None
        self._queue: deque[tuple[int, str]] = deque()
        self._queued = 0
        self.spill = threading.Event()
        """Set when something has gone into the queue."""
        self._guard = threading.Lock()
        self._draining = threading.Lock()
        self._stuck_since: float | None = None
        self._problem = ""
        self._queued_bytes = 0
        self._patience = FIRST_SECONDS

    @property
    def spools(self) -> list[Spool]:
        """All that hold events."""
        return [spool for spool in (self.spool, self._memory) if spool is not None]

    @property
    def in_memory(self) -> int:
        """Events that would die with the process."""
        return self._queued + (0 if self._memory is None else self._memory.stored)

    @property
    def backlog(self) -> bool:
        """Whether the queue holds something."""
        return bool(self._queue)

    def open(self) -> None:
        """Open the spool on disk, where that works."""
        try:
            self.spool = Spool(
                self._path, most_bytes=self._most_bytes, clock=self._clock, sinks=self._names
            )
            self._problem = ""
        except SpoolBusy as error:
            self._trouble(error)

    def _trouble(self, error: SpoolBusy) -> None:
        """Say once that the spool does not work."""
        if not self._problem:
            KEEPER_LOG.error(
                "SIEM: the spool cannot be used, events are sent from memory: %s", error
            )
        self._problem = str(error)

    def keep(self, count: int, body: str) -> None:
        """Take in a call's events; from the second call on waits at most half a millisecond.

        Args:
            count: How many they are.
            body: As ``Spool.put`` takes it.
        """
        spool, patience = self.spool, self._patience
        self._patience = LOCK_SECONDS
        if spool is not None and spool.stored + self._queued + count > self._capacity:
            self.drop(count, f"the spool holds {self._capacity:,} events")
            return
        try:
            if spool is None:
                raise SpoolBusy(self._problem)
            # Even where earlier events wait in memory: on disk they outlive the process.
            spool.put(self._names, count, body, patience)
        except SpoolBusy as error:
            self._remember(count, body, str(error))

    def _remember(self, count: int, body: str, reason: str) -> None:
        with self._guard:
            fits = self.in_memory + count <= self._memory_most
            fits = fits and self._queued_bytes + len(body) <= MEMORY_BYTES
            if fits:
                self._queued_bytes += len(body)
                self._queue.append((count, body))
                self._queued += count
                self.overflowed += count
                self.spill.set()
        if not fits:
            self.drop(count, f"the memory queue is full and the spool refuses: {reason}")

    def count(self, events: int) -> None:
        """Note that events were submitted."""
        with self._guard:
            self.submitted += events

    def drop(self, count: int, reason: str) -> None:
        """Count events as lost; the first time, say so."""
        with self._guard:
            first = self.dropped == 0
            self.dropped += count
        if first:
            KEEPER_LOG.error(
                "SIEM: events are dropped from now on (counted in stats()): %s", reason
            )

    def drain(self, *, last: bool = False) -> None:
        """From the queue into the spool; where that does not work, into one in memory.

        Args:
            last: Wait for another thread that does it right now.

        Raises:
            SpoolBusy: Not even memory takes it.
        """
        if not self._queue or not self._draining.acquire(blocking=last):
            return
        try:
            if self.spool is None:
                self.open()
            while self._queue:
                count, body = self._queue[0]
                if not self._moved(count, body):
                    return
                with self._guard:
                    self._queue.popleft()
                    self._queued -= count
                    self._queued_bytes -= len(body)
        finally:
            self._draining.release()

    def _moved(self, count: int, body: str) -> bool:
        """Whether a call found a place outside the queue."""
        try:
            if self.spool is None:
                raise SpoolBusy(self._problem)
            self.spool.put(self._names, count, body, DRAIN_SECONDS)
            self._stuck_since, self._problem = None, ""
            return True
        except SpoolBusy as error:
            now = time.monotonic()
            self._stuck_since = now if self._stuck_since is None else self._stuck_since
            if error.locked and now - self._stuck_since < LOCKED_SECONDS:
                return False
            self._trouble(error)
        if self._memory is None:
            self._memory = Spool(None, most_bytes=MEMORY_BYTES, clock=self._clock)
        self._memory.put(self._names, count, body, PATIENCE_SECONDS)
        return True

    def waiting(self) -> list[str]:
        """Sinks that lack events.

        Raises:
            SpoolBusy: The spool does not say.
        """
        if self._queue:
            return list(self._names)
        return [n for n in self._names if any(spool.waiting(n) for spool in self.spools)]

    def counts(self, name: str) -> tuple[int | None, int | None]:
        """Pending and dead events of a sink; None where the spool does not say."""
        try:
            pending = self._queued + sum(spool.pending(name) for spool in self.spools)
            return pending, sum(spool.dead_count(name) for spool in self.spools)
        except SpoolBusy:
            return None, None

    def close(self) -> None:
        """Close the spools; what is only in memory is lost, and counted."""
        with self._guard:
            # Whoever comes too late finds no place, and is counted.
            self._memory_most = -1
        lost = self.in_memory
        if lost:
            self.drop(lost, "they were only in memory when the delivery was closed")
        for spool in self.spools:
            spool.close()

    def suspend(self) -> None:
        """Before a fork: close the file, and let nobody in."""
        self._guard.acquire()
        if self.spool is not None:
            self.spool.suspend()

    def resume(self) -> None:
        """After it."""
        try:
            if self.spool is not None:
                self.spool.resume()
        except SpoolBusy as error:
            self.spool = None
            self._trouble(error)
        finally:
            self._guard.release()
