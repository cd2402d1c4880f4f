"""Token buckets under a clock that the test moves, and turns of work that takes long."""

import asyncio
import subprocess
import sys
import threading
from collections import Counter

import pytest

from modelward.api.limits import RateLimiter
from modelward.api.server import is_loopback
from modelward.api.turns import Turns
from modelward.domain import InvalidInputError, TooManyRequestsError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_burst_then_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(per_second=2, burst=3, clock=clock)
    assert [limiter.take("a") for _ in range(3)] == [0, 0, 0]
    assert limiter.take("a") == pytest.approx(0.5)
    assert limiter.take("b") == 0
    clock.now = 0.5
    assert limiter.take("a") == 0
    assert limiter.take("a") == pytest.approx(0.5)
    clock.now = 100
    assert [limiter.take("a") for _ in range(4)][2:] == [0, pytest.approx(0.5)]


def test_reservations_queue_up_to_a_limit() -> None:
    limiter = RateLimiter(per_second=2, burst=1, clock=Clock())
    waits = [limiter.reserve("a", longest=1.5) for _ in range(6)]
    assert waits == pytest.approx([0, 0.5, 1.0, 1.5, 1.5, 1.5])


def test_buckets_do_not_grow_without_end() -> None:
    limiter = RateLimiter(per_second=1, burst=1, clock=Clock())
    for number in range(30_000):
        limiter.take(str(number))
    assert len(limiter._buckets) == 10_000


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("ward.example", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_work_is_done_in_turns_and_nobody_waits_for_the_queue_of_another() -> None:
    turns = Turns(at_once=2)
    running: Counter[int] = Counter()
    most: Counter[str] = Counter()
    order: list[int] = []
    guard, release = threading.Lock(), threading.Event()

    def work(organisation: int) -> int:
        with guard:
            running[organisation] += 1
            order.append(organisation)
            most["of one"] = max(most["of one"], running[organisation])
            most["in all"] = max(most["in all"], running.total())
        assert release.wait(30)
        with guard:
            running[organisation] -= 1
        return organisation

    async def crowd() -> list[int]:
        first = [asyncio.create_task(turns.run(1, work, 1)) for _ in range(20)]
        while running[1] < 1:
            await asyncio.sleep(0.01)
        late = asyncio.create_task(turns.run(2, work, 2))
        while running[2] < 1:
            await asyncio.sleep(0.01)
        release.set()
        return list(await asyncio.wait_for(asyncio.gather(*first, late), 30))

    assert asyncio.run(crowd()) == [1] * 20 + [2]
    assert order[:2] == [1, 2]
    assert most == {"of one": 1, "in all": 2}


def test_turns_outlive_failures_and_their_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelward.api.turns._MOST_IDLE", 10)
    turns = Turns()

    def fail() -> None:
        raise InvalidInputError("archive: broken")

    async def many() -> None:
        for number in range(50):
            for _ in range(2):
                with pytest.raises(InvalidInputError, match="broken"):
                    await turns.run(number % 30, fail)

    asyncio.run(many())
    assert len(turns._each) == 10


def test_work_that_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelward.api.turns._MOST_WAITING", 3)
    turns, release = Turns(), threading.Event()

    async def crowd() -> list[object]:
        tasks = [asyncio.create_task(turns.run(1, release.wait, 30)) for _ in range(6)]
        while sum(task.done() for task in tasks) < 2:
            await asyncio.sleep(0.01)
        assert await turns.run(2, str) == ""  # others are not concerned
        release.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(crowd())
    assert found[:4] == [True] * 4
    for error in found[4:]:
        assert isinstance(error, TooManyRequestsError) and error.retry_after > 0


@pytest.mark.parametrize(
    ("limits", "left", "warned"),
    [((100, 5000), 2512, False), ((100, 1000), 1000, True), ((4000, 5000), 4000, False)],
)
def test_there_is_a_file_for_each_connection(
    limits: tuple[int, int], left: int, warned: bool
) -> None:
    """In a process of its own: a limit that was lowered stays so."""
    script = (
        "import resource, sys; from modelward.api.descriptors import raise_open_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, {limits})\n"
        "raise_open_files(2000)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) == left
    assert ("or lower max_connections" in done.stderr) is warned
