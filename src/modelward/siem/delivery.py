"""Brings events to the SIEMs in the background, and loses none on the way."""

import contextlib
import json
import logging
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from modelward.siem.events import Event
from modelward.siem.lifetimes import UNSETTLED, look_after, send_for_ever
from modelward.siem.sending import IDLE_SECONDS, Sender
from modelward.siem.spool import PATIENCE_SECONDS, Spool, SpoolBusy

__all__ = ["Delivery", "Sink"]

DELIVERY_LOG = logging.getLogger("modelward.siem")
BATCH = 200
CLOSE_SECONDS = 2.0
LOCKED_SECONDS = 5.0
"""How long a foreign lock on the spool is waited for before events are sent from memory."""


class Sink(Protocol):
    """Takes batches of events; an artifact has its own copy of this code, so only names count."""

    name: str
    """Under which the spool keeps what this sink still has to get."""

    def send(self, events: Sequence[dict[str, Any]]) -> Any:
        """Send once: an object with ``status``, ``reason``, ``retry_after``, ``rejected_ids``."""


class Delivery:
    """Keeps events in a spool and sends them to every sink until it has them.

    At least once: an event may arrive twice (after a crash between sending and noting it), with
    the same ``event_id``. Where the spool cannot be used (disk full, folder read-only) events are
    sent from memory, and die with the process.

    Args:
        sinks: Where to; their names must differ.
        spool_path: File of the spool; processes may share it.
        capacity: Most events kept on disk; further ones are dropped and counted.
        memory: Most events kept in memory while the spool is locked or full.
        most_bytes: Largest size of the spool.
        batch: Most events sent at a time.
        clock: Seconds since 1970.
        rng: For the jitter of pauses.
        start: Whether threads send; otherwise ``pump`` does, for tests.

    Raises:
        ValueError: No sink, or two of the same name.
    """

    def __init__(
        self,
        sinks: Sequence[Any],
        spool_path: Path | str,
        *,
        capacity: int = 100_000,
        memory: int = 10_000,
        most_bytes: int = 512 << 20,
        batch: int = BATCH,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        start: bool = True,
    ) -> None:
        self._names = [str(sink.name) for sink in sinks]
        if not self._names or len(set(self._names)) != len(self._names):
            raise ValueError(f"sinks: expected one or more with different names, got {self._names}")
        self._sinks = list(sinks)
        self._path = Path(spool_path).expanduser()
        self._capacity, self._memory_most, self._most_bytes = capacity, memory, most_bytes
        self._batch, self._clock = batch, clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._start_threads = start
        self._closed = False
        self._begin()
        self._wake_up()
        look_after(self)

    def __repr__(self) -> str:
        return f"Delivery({', '.join(self._names)} from {str(self._path)!r})"

    def __enter__(self) -> "Delivery":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _begin(self) -> None:
        """Everything that a forked child must have of its own."""
        self._queue: deque[tuple[int, str]] = deque()
        self._queued = 0
        self._submitted = self._dropped = self._overflowed = 0
        self._guard = threading.Lock()
        self._draining = threading.Lock()
        self._stuck_since: float | None = None
        self._senders = {
            str(sink.name): Sender(sink, batch=self._batch, clock=self._clock, rng=self._rng)
            for sink in self._sinks
        }
        self._wake = {name: threading.Event() for name in self._names}
        self._threads: list[threading.Thread] = []
        self._awake = False
        self._spool: Spool | None = None
        self._memory: Spool | None = None
        self._spool_problem = ""
        self._last: dict[str, tuple[int | None, int | None]] = {}

    def _wake_up(self) -> None:
        """Open the spool and start the threads; in a forked child not before its first event."""
        self._awake = True
        self._open_spool()
        for name in self._names if self._start_threads else ():
            thread = threading.Thread(
                target=send_for_ever, args=(weakref.ref(self), name), daemon=True
            )
            thread.name = f"modelward-siem-{name}"
            self._threads.append(thread)
            thread.start()

    def _open_spool(self) -> None:
        try:
            self._spool = Spool(self._path, most_bytes=self._most_bytes, clock=self._clock)
            self._spool_problem = ""
        except SpoolBusy as error:
            self._trouble(error)

    def _trouble(self, error: SpoolBusy) -> None:
        """Say once that the spool does not work."""
        if not self._spool_problem:
            DELIVERY_LOG.error(
                "SIEM: the spool cannot be used, events are sent from memory: %s", error
            )
        self._spool_problem = str(error)

    # What callers use

    def submit(self, events: Sequence[Event]) -> None:
        """Hand events over; never blocks for more than a moment, never raises."""
        with contextlib.suppress(Exception):
            count = len(events)
            try:
                rows = [event.fields() for event in events]
            except Exception as error:
                self._submitted += count
                self._drop(count, f"an event could not be written: {type(error).__name__}")
                return
            self.submit_rows({}, rows)

    def submit_rows(self, base: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        """Hand over events that share fields, as cheaply as possible; never raises.

        Args:
            base: Fields of all.
            rows: Per event, the fields that differ; with ``event_id``.
        """
        count = len(rows)
        if not count:
            return
        self._submitted += count
        if self._closed:
            self._drop(count, "they came after close()")
            return
        try:
            # Lone surrogates cannot be stored: JSON escapes keep them out of the text.
            body = json.dumps({"base": base, "rows": list(rows)}, default=str)
            self._keep(count, body)
        except Exception as error:
            self._drop(count, f"an event could not be written: {type(error).__name__}")

    def _keep(self, count: int, body: str) -> None:
        if not self._awake:
            self._wake_up()
        spool = self._spool
        if spool is not None and spool.stored + self._queued + count > self._capacity:
            self._drop(count, f"the spool holds {self._capacity:,} events")
            return
        UNSETTLED.add(self)
        try:
            if spool is None or self._queue:
                raise SpoolBusy(self._spool_problem or "earlier events wait in memory")
            spool.put(self._names, count, body)
        except SpoolBusy as error:
            self._remember(count, body, str(error))
        for event in self._wake.values():
            event.set()

    def flush(self, timeout: float = 10.0) -> bool:
        """Try at once, unless a SIEM asked for a pause, and wait until every sink has everything.

        Returns:
            Whether that came about within ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        for sender in self._senders.values():
            sender.hurry()
        while True:
            if not self._threads:
                self.pump()
            for event in self._wake.values():
                event.set()
            try:
                waiting = self._waiting()
            except SpoolBusy:
                waiting = list(self._names)
            if not waiting:
                return True
            left = end - time.monotonic()
            if left <= 0 or all(self._senders[name].told_to_wait(left) for name in waiting):
                return False
            time.sleep(0.01)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Send what can be sent within ``timeout`` seconds; the rest stays in the spool."""
        if self._closed:
            return
        end = time.monotonic() + timeout
        if self._awake:
            self.flush(timeout)
        self._closed = True
        for event in self._wake.values():
            event.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.1, end - time.monotonic()))
        with contextlib.suppress(SpoolBusy):
            self._drain(last=True)
        self._last = {name: self._counts(name) for name in self._names}
        for name in self._names:
            for spool in self._spools():
                with contextlib.suppress(SpoolBusy):
                    spool.release(name)
        lost = self._in_memory()
        if lost:
            self._drop(lost, "they were only in memory when the process ended")
        for spool in self._spools():
            spool.close()
        UNSETTLED.discard(self)

    def stats(self) -> dict[str, Any]:
        """Counts since the start, and what waits now (after ``close``: what waited then).

        Returns:
            ``submitted``, ``dropped`` (the spool and the memory were full), ``overflowed`` (went
            through memory because the spool was busy), ``in_memory``, ``spool``, and under
            ``sinks`` per sink ``delivered``, ``pending``, ``dead``, ``last_error``.
        """
        sinks = {}
        for name, sender in self._senders.items():
            pending, dead = self._last[name] if name in self._last else self._counts(name)
            sinks[name] = {
                "delivered": sender.delivered,
                "pending": pending,
                "dead": dead,
                "last_error": sender.last_error,
            }
        return {
            "submitted": self._submitted,
            "dropped": self._dropped,
            "overflowed": self._overflowed,
            "in_memory": 0 if self._closed else self._in_memory(),
            "spool": str(self._path),
            "sinks": sinks,
        }

    def _counts(self, name: str) -> tuple[int | None, int | None]:
        """Pending and dead events of a sink; None where the spool does not say."""
        try:
            spools = self._spools()
            pending = self._queued + sum(spool.pending(name) for spool in spools)
            return pending, sum(spool.dead_count(name) for spool in spools)
        except SpoolBusy:
            return None, None

    def dead_letters(self) -> list[dict[str, Any]]:
        """Events that a SIEM rejected as malformed, with the reason."""
        return [letter for spool in self._spools() for letter in spool.dead()]

    # Keeping

    def _spools(self) -> list[Spool]:
        return [spool for spool in (self._spool, self._memory) if spool is not None]

    def _in_memory(self) -> int:
        return self._queued + (0 if self._memory is None else self._memory.stored)

    def _remember(self, count: int, body: str, reason: str) -> None:
        with self._guard:
            fits = self._in_memory() + count <= self._memory_most
            if fits:
                self._queue.append((count, body))
                self._queued += count
                self._overflowed += count
        if not fits:
            self._drop(count, f"the memory queue is full and the spool refuses: {reason}")

    def _drop(self, count: int, reason: str) -> None:
        with self._guard:
            first = self._dropped == 0
            self._dropped += count
        if first:
            DELIVERY_LOG.error(
                "SIEM: events are dropped from now on (counted in stats()): %s", reason
            )

    def _drain(self, *, last: bool = False) -> None:
        """From the queue into the spool; where that does not work, into one in memory."""
        if self._spool is None and (self._queue or not self._start_threads):
            self._open_spool()
        if not self._queue or not self._draining.acquire(blocking=last):
            return
        try:
            while self._queue:
                count, body = self._queue[0]
                if not self._moved(count, body):
                    return
                with self._guard:
                    self._queue.popleft()
                    self._queued -= count
        finally:
            self._draining.release()

    def _moved(self, count: int, body: str) -> bool:
        """Whether a call found a place outside the queue."""
        try:
            if self._spool is None:
                raise SpoolBusy(self._spool_problem)
            self._spool.put(self._names, count, body, min(0.1, PATIENCE_SECONDS))
            self._stuck_since, self._spool_problem = None, ""
            return True
        except SpoolBusy as error:
            now = time.monotonic()
            self._stuck_since = now if self._stuck_since is None else self._stuck_since
            if error.locked and now - self._stuck_since < LOCKED_SECONDS:
                return False
            self._trouble(error)
        if self._memory is None:
            self._memory = Spool(None, most_bytes=self._most_bytes, clock=self._clock)
        self._memory.put(self._names, count, body, PATIENCE_SECONDS)
        return True

    def _waiting(self) -> list[str]:
        """Sinks that lack events."""
        if self._queue:
            return list(self._names)
        return [n for n in self._names if any(spool.waiting(n) for spool in self._spools())]

    # Sending

    def pump(self, name: str | None = None) -> float:
        """One round: put memory into the spool, send each sink a batch where it is due.

        Args:
            name: Only this sink.

        Returns:
            Seconds until the next round has something to do.
        """
        with contextlib.suppress(SpoolBusy):
            self._drain()
        pauses = [IDLE_SECONDS]
        for spool in self._spools():
            # A full spool takes in nothing, but still gives.
            with contextlib.suppress(SpoolBusy):
                pauses.append(0.0 if spool.absorb() else IDLE_SECONDS)
            for sender in [self._senders[name]] if name else list(self._senders.values()):
                try:
                    pauses.append(sender.send(spool))
                except SpoolBusy as error:
                    DELIVERY_LOG.debug("SIEM: spool busy: %s", error)
        # In this order: an event that comes in between is not forgotten.
        UNSETTLED.discard(self)
        with contextlib.suppress(SpoolBusy):
            if self._waiting() and not self._closed:
                UNSETTLED.add(self)
        return min(pauses)

    def pause(self, name: str) -> float:
        """Seconds for which a sink must not be sent anything."""
        return self._senders[name].pause()

    # Forks

    def before_fork(self) -> None:
        """Close the spool: SQLite's locks must not be shared with a child."""
        self._guard.acquire()
        if self._spool is not None and not self._closed:
            self._spool.suspend()

    def after_fork_in_parent(self) -> None:
        """Open it again."""
        try:
            if self._spool is not None and not self._closed:
                self._spool.resume()
        except SpoolBusy as error:
            self._spool = None
            self._trouble(error)
        finally:
            self._guard.release()

    def after_fork_in_child(self) -> None:
        """Start anew: the parent sends what it has in memory."""
        last = self._last
        self._begin()
        self._last = last
