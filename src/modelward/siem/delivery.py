"""Brings events to the SIEMs in the background, and loses none on the way."""

import contextlib
import json
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from modelward.siem.events import Event
from modelward.siem.keeping import Keeper
from modelward.siem.lifetimes import UNSETTLED, keep_for_ever, look_after, send_for_ever
from modelward.siem.sending import IDLE_SECONDS, Sender
from modelward.siem.spool import SpoolBusy

__all__ = ["Delivery", "Sink"]

DELIVERY_LOG = logging.getLogger("modelward.siem")
BATCH = 200
CLOSE_SECONDS = 2.0


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
        self._limits = {"capacity": capacity, "memory": memory, "most_bytes": most_bytes}
        self._batch, self._clock = batch, clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._start_threads = start
        self._closed = self._suspended = False
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
        self._keeper = Keeper(self._names, self._path, clock=self._clock, **self._limits)
        self._senders = {
            str(sink.name): Sender(sink, batch=self._batch, clock=self._clock, rng=self._rng)
            for sink in self._sinks
        }
        self._wake = {name: threading.Event() for name in self._names}
        self._threads: list[threading.Thread] = []
        self._awake = False
        self._waking = threading.Lock()
        self._last: dict[str, tuple[int | None, int | None]] = {}

    def _wake_up(self) -> None:
        """Open the spool and start the threads; in a forked child not before its first event."""
        self._awake = True
        self._keeper.open()
        for name in self._names if self._start_threads else ():
            thread = threading.Thread(
                target=send_for_ever, args=(weakref.ref(self), name), daemon=True
            )
            thread.name = f"modelward-siem-{name}"
            self._threads.append(thread)
        if self._start_threads:
            keeper = threading.Thread(target=keep_for_ever, args=(weakref.ref(self),), daemon=True)
            keeper.name = "modelward-siem-keeper"
            self._threads.append(keeper)
        for thread in self._threads:
            thread.start()

    # What callers use

    def submit(self, events: Sequence[Event]) -> None:
        """Hand events over; never blocks for more than a moment, never raises."""
        try:
            rows = [event.fields() for event in events]
        except Exception as error:
            self._refuse(1, f"an event could not be written: {type(error).__name__}")
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
        if self._closed:
            self._refuse(count, "they came after close()")
            return
        try:
            # Lone surrogates cannot be stored: JSON escapes keep them out of the text.
            body = json.dumps({"base": base, "rows": list(rows)}, default=str)
            if not self._awake:
                with self._waking:
                    if not self._awake:
                        self._wake_up()
            self._keeper.keep(count, body)
            # Not before: a round of a thread in between would find nothing, and take it out again.
            UNSETTLED.add(self)
        except Exception as error:
            self._refuse(count, f"an event could not be written: {type(error).__name__}")
            return
        self._keeper.count(count)
        for event in self._wake.values():
            event.set()

    def _refuse(self, count: int, reason: str) -> None:
        self._keeper.count(count)
        self._keeper.drop(count, reason)

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
                waiting = self._keeper.waiting()
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
        for event in (*self._wake.values(), self._keeper.spill):
            event.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.1, end - time.monotonic()))
        with contextlib.suppress(SpoolBusy):
            self._keeper.drain(last=True)
        self._last = {name: self._keeper.counts(name) for name in self._names}
        for name in self._names:
            for spool in self._keeper.spools:
                with contextlib.suppress(SpoolBusy):
                    spool.release(name)
        self._keeper.close()
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
            pending, dead = self._last[name] if name in self._last else self._keeper.counts(name)
            sinks[name] = {
                "delivered": sender.delivered,
                "pending": pending,
                "dead": dead,
                "last_error": sender.last_error,
            }
        return {
            "submitted": self._keeper.submitted,
            "dropped": self._keeper.dropped,
            "overflowed": self._keeper.overflowed,
            "in_memory": 0 if self._closed else self._keeper.in_memory,
            "spool": str(self._path),
            "sinks": sinks,
        }

    def dead_letters(self) -> list[dict[str, Any]]:
        """Events that a SIEM rejected as malformed, with the reason."""
        return [letter for spool in self._keeper.spools for letter in spool.dead()]

    # Sending

    def pump(self, name: str | None = None) -> float:
        """One round: put memory into the spool, send each sink a batch where it is due.

        Args:
            name: Only this sink.

        Returns:
            Seconds until the next round has something to do.
        """
        with contextlib.suppress(SpoolBusy):
            self._keeper.drain()
        pauses = [IDLE_SECONDS]
        senders = [self._senders[name]] if name else list(self._senders.values())
        due = any(sender.pause() == 0 for sender in senders)
        for spool in self._keeper.spools:
            # A full spool takes in nothing, but still gives.
            with contextlib.suppress(SpoolBusy):
                if not due:
                    # Calls can wait as they are: making events of them would slow predictions.
                    spool.tidy()
                elif spool.absorb():
                    pauses.append(0.0)
            for sender in senders:
                try:
                    pauses.append(sender.send(spool))
                except SpoolBusy as error:
                    DELIVERY_LOG.debug("SIEM: spool busy: %s", error)
        # In this order: an event that comes in between is not forgotten.
        UNSETTLED.discard(self)
        with contextlib.suppress(SpoolBusy):
            if self._keeper.waiting() and not self._closed:
                UNSETTLED.add(self)
        return min(pauses)

    def pause(self, name: str) -> float:
        """Seconds for which a sink must not be sent anything."""
        return self._senders[name].pause()

    # Forks

    def before_fork(self) -> None:
        """Close the spool: SQLite's locks must not be shared with a child."""
        if not self._closed:
            self._keeper.suspend()
            self._suspended = True

    def after_fork_in_parent(self) -> None:
        """Open it again."""
        if self._suspended:
            self._suspended = False
            self._keeper.resume()

    def after_fork_in_child(self) -> None:
        """Start anew: the parent sends what it has in memory."""
        last = self._last
        self._begin()
        self._last, self._suspended = last, False
