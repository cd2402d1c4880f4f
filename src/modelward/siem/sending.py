"""One SIEM's share of a spool: when to send, and what to do about the answer."""

import logging
import random
from collections.abc import Callable
from typing import Any

from modelward.siem.spool import Spool, SpoolBusy
from modelward.siem.transport import LONGEST_WISH, Outcome

__all__ = ["IDLE_SECONDS", "Sender"]

SENDING_LOG = logging.getLogger("modelward.siem")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
IDLE_SECONDS = 1.0
"""How often a thread looks for events that another process left on the same spool."""


class Sender:
    """Sends a sink what the spool holds for it, and waits after failures.

    Args:
        sink: Where to.
        batch: Most events at a time.
        clock: Seconds since 1970.
        rng: For the jitter of pauses.
    """

    def __init__(
        self, sink: Any, *, batch: int, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self.sink = sink
        self.name = str(sink.name)
        self.failures = 0
        self.not_before = 0.0
        self.asked_to_wait = False
        """Whether the pause is the receiver's wish."""
        self.delivered = 0
        self.last_error = ""
        self._complained = ""
        self._batch, self._clock, self._rng = batch, clock, rng
        self._owed: list[tuple[Spool, list[int]]] = []

    def hurry(self) -> None:
        """Forget a pause of our own; the receiver's wish stands."""
        if not self.asked_to_wait:
            self.not_before = 0.0

    def pause(self) -> float:
        """Seconds until it may send."""
        return max(0.0, self.not_before - self._clock())

    def told_to_wait(self, seconds: float) -> bool:
        """Whether the receiver wants to be left alone for longer than that."""
        return self.asked_to_wait and self.pause() > seconds

    def send(self, spool: Spool) -> float:
        """Send one batch where that is due.

        Returns:
            Seconds until there is something to do.

        Raises:
            SpoolBusy: The spool does not work.
        """
        left = self.pause()
        if left > 0:
            return min(IDLE_SECONDS, left)
        self._settle()
        taken = spool.take(self.name, self._batch)
        if not taken:
            return IDLE_SECONDS
        try:
            outcome = self._deliver(spool, taken)
        except SpoolBusy:
            # Asking again at once would only send the same events again.
            self._wait(None)
            raise
        if outcome is None:
            return 0.0
        self._wait(outcome.retry_after)
        spool.release(self.name)
        return min(IDLE_SECONDS, self.pause())

    def _settle(self) -> None:
        """Strike off what the sink has and the spool did not take note of."""
        while self._owed:
            spool, seqs = self._owed[0]
            spool.done(self.name, seqs)
            self._owed.pop(0)

    def _wait(self, wish: float | None) -> None:
        self.failures += 1
        ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures - 1, 16))
        pause = self._rng.uniform(0, ceiling)
        self.asked_to_wait = wish is not None and wish >= FIRST_PAUSE
        if wish is not None and wish >= FIRST_PAUSE:
            # The receiver's wish, and a little more so that senders do not return all at once.
            pause = min(float(wish), LONGEST_WISH) + self._rng.uniform(0, FIRST_PAUSE)
        self.not_before = self._clock() + pause

    def _deliver(self, spool: Spool, taken: list[tuple[int, dict[str, Any]]]) -> Outcome | None:
        """Send events; put aside the malformed ones, halving where the sink names none.

        Returns:
            Nothing where all is settled, else the outcome that asks for another time.
        """
        outcome = self._ask(taken)
        seqs = [seq for seq, _ in taken]
        if outcome.status == "accepted":
            self._owed.append((spool, seqs))
            self._settle()
            return None
        if outcome.status != "rejected":
            return outcome
        named = set(outcome.rejected_ids)
        bad = [seq for seq, fields in taken if fields.get("event_id") in named]
        if bad or len(taken) == 1:
            # The others of the batch are taken again, with those behind them.
            spool.bury(self.name, bad or seqs, str(outcome.reason))
            return None
        middle = len(taken) // 2
        for part in (taken[:middle], taken[middle:]):
            later = self._deliver(spool, part)
            if later is not None:
                return later
        return None

    def _ask(self, taken: list[tuple[int, dict[str, Any]]]) -> Outcome:
        """Send once, and note how it went."""
        try:
            said = self.sink.send([fields for _, fields in taken])
            wish = None if said.retry_after is None else float(said.retry_after)
            ids = tuple(said.rejected_ids)
            outcome = Outcome(str(said.status), str(said.reason), wish, ids)
        except Exception as error:
            # The type alone: a message might carry what the sink was given.
            outcome = Outcome("retry", f"the sink failed with {type(error).__name__}")
        status, reason = outcome.status, outcome.reason
        if status == "accepted":
            self.delivered += len(taken)
            self.failures, self.not_before, self.asked_to_wait = 0, 0.0, False
            self.last_error = self._complained = ""
            return outcome
        self.last_error = reason
        kind = f"{status} {reason[:40]}"
        if kind != self._complained:
            self._complained = kind
            SENDING_LOG.warning(
                "SIEM %s: %s; events are %s",
                self.name,
                reason,
                "put aside as dead letters" if status == "rejected" else "kept",
            )
        return outcome
