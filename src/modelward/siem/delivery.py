"""Brings events to the SIEMs in the background, and loses none on the way."""

import atexit
import contextlib
import json
import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modelward.siem.events import Event
from modelward.siem.spool import Spool, SpoolBusy
from modelward.siem.transport import Outcome

__all__ = ["Delivery", "Sink"]

DELIVERY_LOG = logging.getLogger("modelward.siem")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
IDLE_SECONDS = 1.0
"""How often a thread looks for events that another process left on the same spool."""
SPILL_SECONDS = 0.02
"""How soon memory is tried again where the spool is busy."""
BATCH = 200
CLOSE_SECONDS = 2.0
ABANDONED: list[Any] = []
"""What a forked child took over from its parent and must not close."""


class Sink(Protocol):
    """Takes batches of events; an artifact has its own copy of this code, so only names count."""

    name: str
    """Under which the spool keeps what this sink still has to get."""

    def send(self, events: Sequence[dict[str, Any]]) -> Any:
        """Send once: an object with ``status``, ``reason``, ``retry_after``, ``rejected_ids``."""


@dataclass
class SinkState:
    """What a sink's thread knows."""

    sink: Any
    failures: int = 0
    not_before: float = 0.0
    delivered: int = 0
    last_error: str = ""
    complained: str = ""


class Delivery:
    """Keeps events in a spool and sends them to every sink until it has them.

    At least once: an event may arrive twice (after a crash between sending and noting it), with
    the same ``event_id``.

    Args:
        sinks: Where to; their names must differ.
        spool_path: File of the spool; processes may share it.
        capacity: Most events kept on disk; further ones are dropped and counted.
        memory: Most events kept in memory while the spool is locked or full.
        most_bytes: Largest size of the spool.
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
        names = [str(sink.name) for sink in sinks]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"sinks: expected one or more with different names, got {names}")
        self._names = names
        self._states = {str(sink.name): SinkState(sink) for sink in sinks}
        self._path = Path(spool_path)
        self._capacity, self._memory_most, self._most_bytes = capacity, memory, most_bytes
        self._batch, self._clock = batch, clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._start_threads = start
        self._submitted = self._dropped = self._overflowed = 0
        self._closed = False
        self._begin()
        ref = weakref.ref(self)
        atexit.register(closed_at_exit, ref)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=lambda: on_fork(ref, "_before_fork"),
                after_in_parent=lambda: on_fork(ref, "_after_fork_in_parent"),
                after_in_child=lambda: on_fork(ref, "_after_fork_in_child"),
            )

    def __repr__(self) -> str:
        return f"Delivery({', '.join(self._names)} from {str(self._path)!r})"

    def __enter__(self) -> "Delivery":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _begin(self) -> None:
        self._queue: deque[tuple[int, str]] = deque()
        self._queued = 0
        self._guard = threading.Lock()
        self._wake = {name: threading.Event() for name in self._names}
        self._spill = threading.Event()
        self._threads: list[threading.Thread] = []
        self._spool: Spool | None = None
        self._spool_problem = ""
        self._open_spool()
        if self._start_threads:
            for name in self._names:
                thread = threading.Thread(
                    target=send_for_ever, args=(weakref.ref(self), name), daemon=True
                )
                thread.name = f"modelward-siem-{name}"
                self._threads.append(thread)
            keeper = threading.Thread(target=keep_for_ever, args=(weakref.ref(self),), daemon=True)
            keeper.name = "modelward-siem-keeper"
            self._threads.append(keeper)
            for thread in self._threads:
                thread.start()

    def _open_spool(self) -> None:
        try:
            self._spool = Spool(self._path, most_bytes=self._most_bytes, clock=self._clock)
        except SpoolBusy as error:
            if not self._spool_problem:
                DELIVERY_LOG.error(
                    "SIEM: the spool cannot be used, events are kept in memory only: %s", error
                )
            self._spool_problem = str(error)

    # What callers use

    def submit(self, events: Sequence[Event]) -> None:
        """Hand events over; never blocks for more than a moment, never raises."""
        if events:
            self.submit_rows({}, [event.fields() for event in events])

    def submit_rows(self, base: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        """Hand over events that share fields, as cheaply as possible.

        Args:
            base: Fields of all.
            rows: Per event, the fields that differ; with ``event_id``.
        """
        count = len(rows)
        if not count or self._closed:
            return
        self._submitted += count
        spool = self._spool
        if spool is not None and spool.stored + self._queued + count > self._capacity:
            self._drop(count, f"the spool holds {self._capacity:,} events")
            return
        # Lone surrogates cannot be stored: JSON escapes keep them out of the text.
        body = json.dumps({"base": base, "rows": rows}, default=str)
        try:
            if spool is None or self._queue:
                raise SpoolBusy(self._spool_problem or "earlier events wait in memory")
            spool.put(self._names, count, body)
        except SpoolBusy as error:
            self._remember(count, body, str(error))
        for event in self._wake.values():
            event.set()

    def flush(self, timeout: float = 10.0) -> bool:
        """Try at once, whatever pause was due, and wait until every sink has everything.

        Returns:
            Whether that came about within ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        for state in self._states.values():
            state.not_before = 0.0
        while True:
            if not self._threads:
                self.pump()
            for event in self._wake.values():
                event.set()
            if not self._waiting():
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Send what can be sent within ``timeout`` seconds; the rest stays in the spool."""
        if self._closed:
            return
        with contextlib.suppress(SpoolBusy):
            self.flush(timeout)
        self._closed = True
        for event in (*self._wake.values(), self._spill):
            event.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
        if self._spool is not None:
            with contextlib.suppress(SpoolBusy):
                self._drain()
                for name in self._names:
                    self._spool.release(name)
            self._spool.close()

    def stats(self) -> dict[str, Any]:
        """Counts since the start, and what waits now.

        Returns:
            ``submitted``, ``dropped`` (the spool and the memory were full), ``overflowed`` (went
            through memory because the spool was busy), ``in_memory``, ``spool``, and under
            ``sinks`` per sink ``delivered``, ``pending``, ``dead``, ``last_error``.
        """
        sinks = {}
        for name, state in self._states.items():
            pending: int | None = None
            dead: int | None = None
            if self._spool is not None and not self._closed:
                with contextlib.suppress(SpoolBusy):
                    pending = self._spool.pending(name) + self._queued
                    dead = self._spool.dead_count(name)
            sinks[name] = {
                "delivered": state.delivered,
                "pending": pending,
                "dead": dead,
                "last_error": state.last_error,
            }
        return {
            "submitted": self._submitted,
            "dropped": self._dropped,
            "overflowed": self._overflowed,
            "in_memory": self._queued,
            "spool": str(self._path),
            "sinks": sinks,
        }

    def dead_letters(self) -> list[dict[str, Any]]:
        """Events that a SIEM rejected as malformed, with the reason."""
        return [] if self._spool is None else self._spool.dead()

    # Keeping

    def _remember(self, count: int, body: str, reason: str) -> None:
        with self._guard:
            fits = self._queued + count <= self._memory_most
            if fits:
                self._queue.append((count, body))
                self._queued += count
                self._overflowed += count
                self._spill.set()
        if not fits:
            self._drop(count, f"the memory queue is full and the spool refuses: {reason}")

    def _drop(self, count: int, reason: str) -> None:
        first = self._dropped == 0
        self._dropped += count
        if first:
            DELIVERY_LOG.error(
                "SIEM: events are dropped from now on (counted in stats()): %s", reason
            )

    def _drain(self) -> None:
        """From memory into the spool."""
        if self._spool is None:
            self._open_spool()
        while self._queue and self._spool is not None:
            with self._guard:
                if not self._queue:
                    return
                count, body = self._queue[0]
                self._spool.put(self._names, count, body)
                self._queue.popleft()
                self._queued -= count

    def _waiting(self) -> bool:
        if self._queue or self._spool is None:
            return bool(self._queue)
        return any(self._spool.pending(name) for name in self._names)

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
        if self._spool is None:
            return IDLE_SECONDS
        names = [name] if name else self._names
        try:
            # While a SIEM is down nothing is sorted: predictions have the spool for themselves.
            due = any(self._states[n].not_before <= self._clock() for n in names)
            left = self._spool.absorb() if due else 0
            pauses = [self._send(self._states[n]) for n in names]
        except SpoolBusy as error:
            DELIVERY_LOG.debug("SIEM: spool busy: %s", error)
            return 0.1
        return 0.0 if left else min(pauses)

    def _send(self, state: SinkState) -> float:
        spool = self._spool
        if spool is None:
            return IDLE_SECONDS
        now = self._clock()
        if now < state.not_before:
            return min(IDLE_SECONDS, state.not_before - now)
        name = str(state.sink.name)
        taken = spool.take(name, self._batch)
        if not taken:
            return IDLE_SECONDS
        outcome = self._ask(state, taken)
        if outcome.status == "accepted":
            return 0.0
        if outcome.status == "rejected":
            self._reject(state, taken, outcome)
            return 0.0
        spool.release(name)
        state.failures += 1
        ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(state.failures - 1, 16))
        pause = self._rng.uniform(0, ceiling)
        if outcome.retry_after is not None:
            # The receiver's wish, and a little more so that senders do not return all at once.
            pause = float(outcome.retry_after) + self._rng.uniform(0, FIRST_PAUSE)
        state.not_before = self._clock() + pause
        return min(IDLE_SECONDS, pause)

    def _ask(self, state: SinkState, taken: list[tuple[int, dict[str, Any]]]) -> Any:
        """Send once; note success."""
        try:
            outcome: Any = state.sink.send([fields for _, fields in taken])
        except Exception as error:
            # The type alone: a message might carry what the sink was given.
            outcome = Outcome("retry", f"the sink failed with {type(error).__name__}")
        if outcome.status == "accepted":
            state.delivered += len(taken)
            state.failures, state.not_before = 0, 0.0
            state.last_error = state.complained = ""
            if self._spool is not None:
                self._spool.done(str(state.sink.name), [seq for seq, _ in taken])
            return outcome
        state.last_error = str(outcome.reason)
        kind = f"{outcome.status} {state.last_error[:40]}"
        if kind != state.complained:
            state.complained = kind
            DELIVERY_LOG.warning(
                "SIEM %s: %s; events are %s",
                state.sink.name,
                state.last_error,
                "kept" if outcome.status == "retry" else "put aside as dead letters",
            )
        return outcome

    def _reject(
        self, state: SinkState, taken: list[tuple[int, dict[str, Any]]], outcome: Any
    ) -> None:
        """Put aside the malformed events of a batch, halving it where the sink names none."""
        spool, name = self._spool, str(state.sink.name)
        if spool is None:
            return
        named = set(outcome.rejected_ids)
        bad = [row for row in taken if row[1].get("event_id") in named]
        if bad:
            spool.bury(name, [seq for seq, _ in bad], str(outcome.reason))
            return
        if len(taken) == 1:
            spool.bury(name, [taken[0][0]], str(outcome.reason))
            return
        middle = len(taken) // 2
        for part in (taken[:middle], taken[middle:]):
            again = self._ask(state, part)
            if again.status == "rejected":
                self._reject(state, part, again)
            elif again.status == "retry":
                return

    # Forks

    def _before_fork(self) -> None:
        self._guard.acquire()
        if self._spool is not None:
            self._spool.lock.acquire()

    def _after_fork_in_parent(self) -> None:
        if self._spool is not None:
            self._spool.lock.release()
        self._guard.release()

    def _after_fork_in_child(self) -> None:
        # The parent sends what it has in memory. Its connection must not be closed from here.
        ABANDONED.append((self._spool, self._guard, self._wake, self._spill))
        for state in self._states.values():
            state.delivered = 0
        self._submitted = self._dropped = self._overflowed = 0
        if not self._closed:
            self._begin()


def send_for_ever(ref: "weakref.ref[Delivery]", name: str) -> None:
    """Body of a sink's thread; ends when the delivery is closed or forgotten."""
    while True:
        delivery = ref()
        if delivery is None or delivery._closed:
            return
        wake = delivery._wake[name]
        wake.clear()
        pause = IDLE_SECONDS
        try:
            pause = delivery.pump(name)
        except Exception:
            DELIVERY_LOG.exception("SIEM: the sending thread stumbled and goes on")
        due = delivery._states[name].not_before
        backing_off = due > delivery._clock()
        del delivery
        if pause > 0:
            if backing_off:
                time.sleep(min(pause, 0.2))
            else:
                wake.wait(pause)


def keep_for_ever(ref: "weakref.ref[Delivery]") -> None:
    """Body of the thread that empties the memory: the others may wait for a SIEM that is silent."""
    while True:
        delivery = ref()
        if delivery is None or delivery._closed:
            return
        spill = delivery._spill
        spill.clear()
        busy = False
        try:
            if delivery._spool is not None:
                delivery._drain()
                delivery._spool.settle()
        except SpoolBusy:
            busy = True
        except Exception:
            DELIVERY_LOG.exception("SIEM: the keeping thread stumbled and goes on")
        del delivery
        if busy:
            time.sleep(SPILL_SECONDS)
        else:
            spill.wait(IDLE_SECONDS)


def on_fork(ref: "weakref.ref[Delivery]", method: str) -> None:
    """Call a method of a delivery that still lives."""
    delivery = ref()
    if delivery is not None:
        getattr(delivery, method)()


def closed_at_exit(ref: "weakref.ref[Delivery]") -> None:
    """Give what is left a last chance when the interpreter ends."""
    delivery = ref()
    if delivery is not None:
        delivery.close()
