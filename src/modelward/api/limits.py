"""Token buckets: so many requests per second for each key and address, with a small burst."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from modelward.api.turns import Turns
from modelward.settings import Settings

__all__ = ["Limits", "RateLimiter", "Readers"]

_Result = TypeVar("_Result")
_MOST_BUCKETS = 10_000


class RateLimiter:
    """One bucket per name; the buckets used longest ago are forgotten. Not thread-safe."""

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_second
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def _level(self, name: str) -> float:
        level, seen = self._buckets.get(name, (self._burst, self._clock()))
        return min(self._burst, level + (self._clock() - seen) * self._rate)

    def _keep(self, name: str, level: float) -> None:
        self._buckets[name] = (level, self._clock())
        self._buckets.move_to_end(name)
        while len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)

    def wait(self, name: str) -> float:
        """Seconds until the bucket holds a request; nothing is taken."""
        return max(0.0, (1 - self._level(name)) / self._rate)

    def take(self, name: str) -> float:
        """Take one request where the bucket holds one.

        Returns:
            0 where it was taken, otherwise the seconds until the next one is there.
        """
        level = self._level(name)
        if level < 1:
            return (1 - level) / self._rate
        self._keep(name, level - 1)
        return 0.0

    def reserve(self, name: str, longest: float) -> float:
        """Take one request in any case.

        Returns:
            Seconds to wait before it is served, at most ``longest``.
        """
        level = max(self._level(name) - 1, -longest * self._rate)
        self._keep(name, level)
        return max(0.0, -level / self._rate)


class Limits:
    """The limits of one service."""

    LONGEST_DELAY = 10.0
    """Seconds that a call which is never refused is held back at most; clients wait for 15."""

    def __init__(self, settings: Settings) -> None:
        self.keys = RateLimiter(settings.requests_per_second, settings.request_burst)
        # Of their own, so that polling does not use up what other calls of the key may do.
        self.status = RateLimiter(settings.requests_per_second, settings.request_burst)
        self.exchanges = RateLimiter(settings.key_exchange_per_second, settings.request_burst)
        self.addresses = RateLimiter(settings.address_requests_per_second, settings.address_burst)
        self.failures = RateLimiter(settings.failures_per_second, settings.failure_burst)
        self.known = KnownSecrets()
        self.turns = Turns()
        self.readers = Readers()


class Readers:
    """Threads of their own for what only reads: status calls, and who calls at all.

    Where the database is locked, calls that write wait for it in all the threads that others
    share; existing clients give a status call up after 15 seconds.
    """

    def __init__(self, most: int = 20) -> None:
        self._most = most
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, work: Callable[..., _Result], *given: Any) -> _Result:
        """What ``work(*given)`` returns."""
        if self._limiter is None:  # not before there is an event loop
            self._limiter = anyio.CapacityLimiter(self._most)
        return await anyio.to_thread.run_sync(partial(work, *given), limiter=self._limiter)


class KnownSecrets:
    """Secrets that opened something lately, as hashes.

    An address that failed too often is refused before its secret is looked at, otherwise the
    limit would not slow guessing. Clients behind the same address whose secret worked before
    are not its victims.
    """

    _MOST = 10_000

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def _digest(self, secret: str) -> bytes:
        return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

    def __contains__(self, secret: str | None) -> bool:
        return secret is not None and self._digest(secret) in self._seen

    def add(self, secret: str) -> None:
        """Remember a secret that worked."""
        digest = self._digest(secret)
        self._seen[digest] = None
        self._seen.move_to_end(digest)
        while len(self._seen) > self._MOST:
            self._seen.popitem(last=False)

    def discard(self, secret: str) -> None:
        """Forget a secret that does not work any more."""
        self._seen.pop(self._digest(secret), None)
