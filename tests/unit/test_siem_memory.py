"""Events that found the spool busy reach the disk soon, and nothing is sorted for no SIEM."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from modelward.siem import Delivery, Event, Outcome, Spool


class Silent:
    """A SIEM that takes a batch and never says a word until it is let go."""

    name = "silent"

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.freed = threading.Event()

    def send(self, events: Sequence[dict[str, Any]]) -> Outcome:
        self.asked.set()
        self.freed.wait(30)
        return Outcome("accepted")


class Down:
    """A SIEM that refuses, and wants to be left alone for long."""

    name = "down"

    def __init__(self) -> None:
        self.asked = 0

    def send(self, events: Sequence[dict[str, Any]]) -> Outcome:
        self.asked += 1
        return Outcome("retry", "down", 1000.0)


def event() -> Event:
    return Event(raw_message="m", service_name="s", asset_id="a", source_name="n", probability=0.9)


def until(condition: Any, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_memory_reaches_the_disk_while_the_siem_is_silent(tmp_path: Path) -> None:
    sink = Silent()
    delivery = Delivery([sink], tmp_path / "spool.db", memory=50)
    try:
        delivery.submit([event()])
        assert sink.asked.wait(20), "the sending thread now waits for the SIEM"
        assert delivery._spool is not None
        for _ in range(4):
            with delivery._spool.lock:
                delivery.submit([event() for _ in range(40)])
            assert until(lambda: delivery._queued == 0), "memory waits for a silent SIEM"
        stats = delivery.stats()
        assert stats["overflowed"] >= 40
        assert (stats["dropped"], stats["in_memory"]) == (0, 0)
        assert stats["sinks"]["silent"]["pending"] == 161
    finally:
        sink.freed.set()
        assert delivery.flush(20)
        delivery.close()


def test_nothing_is_sorted_while_no_siem_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = Spool.absorb
    monkeypatch.setattr(Spool, "absorb", lambda self: (calls.append(1), real(self))[1])
    now = [0.0]
    sink = Down()
    delivery = Delivery([sink], tmp_path / "spool.db", start=False, clock=lambda: now[0])
    delivery.submit([event()])
    delivery.pump()
    before = len(calls)
    delivery.submit([event(), event()])
    delivery.pump()
    assert (len(calls), sink.asked) == (before, 1)
    assert delivery.stats()["sinks"]["down"]["pending"] == 3
    now[0] += 1002
    delivery.pump()
    assert (len(calls), sink.asked) == (before + 1, 2)
    delivery.close()


def test_the_log_is_written_back_while_the_siem_is_down(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    sink = Down()
    with Delivery([sink], path) as delivery:
        delivery.submit([event()])
        assert until(lambda: sink.asked == 1)
        for _ in range(300):
            delivery.submit_rows({}, [{**event().fields(), "RawMessage": "x" * 20_000}])
        assert until(lambda: path.stat().st_size > 3 << 20), "the log alone grows"
        assert delivery.stats()["sinks"]["down"]["pending"] == 301
