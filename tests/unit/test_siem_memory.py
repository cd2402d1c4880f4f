"""Events that found the spool busy reach the disk soon, whatever the SIEM does."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelward.siem import Delivery, Event, Outcome


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
        assert delivery._spool is not None
        for _ in range(4):
            with delivery._spool._lock:
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
