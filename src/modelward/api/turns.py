"""Work that keeps a processor busy: a few pieces of it at a time, however many are asked for."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from modelward.domain import TooManyRequestsError

__all__ = ["Turns"]

_Result = TypeVar("_Result")
_AT_ONCE = 2
_MOST_WAITING = 100
"""Pieces of one organisation's work that wait, each with a file on the disk."""
_RETRY_SECONDS = 10.0
_MOST_IDLE = 1_000


class Turns:
    """Runs work in threads, one piece of an organisation at a time and a few in all.

    Looking through an archive of a hundred thousand entries takes most of a second of Python. Done
    in any number of threads, it leaves the thread that answers everybody a small share of the
    interpreter, and all threads that look callers up may be taken.
    """

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._all: anyio.CapacityLimiter | None = None
        self._each: OrderedDict[int, anyio.Lock] = OrderedDict()

    async def run(self, organisation: int, work: Callable[..., _Result], *given: Any) -> _Result:
        """What ``work(*given)`` returns, when it was the turn of the organisation.

        Args:
            organisation: For whom it is done; those of others do not wait for its queue.
            work: Blocks its thread.
            given: Its arguments.

        Raises:
            TooManyRequestsError: So much of the organisation's work waits already.
        """
        if self._all is None:  # not before there is an event loop
            self._all = anyio.CapacityLimiter(self._at_once)
        turn = self._of(organisation)
        if turn.statistics().tasks_waiting >= _MOST_WAITING:
            raise TooManyRequestsError(
                f"files: expected at most {_MOST_WAITING} of one organisation that wait to be "
                "looked through; send it again when some are done",
                retry_after=_RETRY_SECONDS,
            )
        async with turn:
            return await anyio.to_thread.run_sync(partial(work, *given), limiter=self._all)

    def _of(self, organisation: int) -> anyio.Lock:
        lock = self._each.setdefault(organisation, anyio.Lock())
        self._each.move_to_end(organisation)
        if len(self._each) > _MOST_IDLE:
            idle = [name for name, one in self._each.items() if not one.statistics().owner]
            for name in idle[: len(self._each) - _MOST_IDLE]:
                if name != organisation:
                    del self._each[name]
        return lock
