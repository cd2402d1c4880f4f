"""What a SIEM that is silent or down costs the process that reports to it."""

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
        spool = delivery._keeper.spool
        assert spool is not None
        for _ in range(4):
            with spool._link._lock:
                delivery.submit([event() for _ in range(40)])
            assert until(lambda: not delivery._keeper.backlog), "memory waits for a silent SIEM"
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
    class Down:
        name = "down"

        def send(self, events: Sequence[dict[str, Any]]) -> Outcome:
            return Outcome("retry", "down", 1000.0)

    calls: list[int] = []
    real = Spool.absorb
    monkeypatch.setattr(Spool, "absorb", lambda self: (calls.append(1), real(self))[1])
    now = [0.0]
    delivery = Delivery([Down()], tmp_path / "spool.db", start=False, clock=lambda: now[0])
    delivery.submit([event()])
    delivery.pump()
    before = len(calls)
    delivery.submit([event(), event()])
    delivery.pump()
    assert len(calls) == before
    assert delivery.stats()["sinks"]["down"]["pending"] == 3
    now[0] += 1002
    delivery.pump()
    assert len(calls) == before + 1
    delivery.close()
