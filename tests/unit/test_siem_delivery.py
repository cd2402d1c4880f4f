"""Keeping events: outages, pauses, limits, full disks, events that cannot be read."""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from siem_helpers import Clock, Scripted, delivery, event, sentinel, splunk

from modelward.siem import Delivery, Outcome, Spool, SpoolBusy
from modelward.siem.sending import Sender
from modelward.siem.spool_file import LOG_BYTES
from modelward.siem_sink import LocalSink

RETRY = Outcome("retry", "busy")


def test_ten_thousand_events_of_an_outage_all_arrive(tmp_path):
    clock = Clock()
    with LocalSink(clock=clock) as sink:
        sinks = [sentinel(sink, clock=clock), splunk(sink)]
        outage = sink.fail(times=-1, status=503)
        with delivery(tmp_path, *sinks, clock=clock, batch=500) as sending:
            for call in range(100):
                sending.submit([event(100 * call + n) for n in range(100)])
                if call % 10 == 0:
                    sending.pump()
                clock.now += 36
            down = len(sink.requests)
            assert sink.events == []
            assert sending.stats()["sinks"]["splunk"]["pending"] == 10_000
            outage.times = 0
            clock.now += 600
            for _ in range(100):
                if sending.pump() and not sending._keeper.waiting():
                    break
            stats = sending.stats()
    wanted = {f"evt-{n}" for n in range(10_000)}
    assert {e["event_id"] for e in sink.sentinel_events} == wanted
    assert {e["event_id"] for e in sink.splunk_events} == wanted
    assert sink.duplicates == 0
    assert (stats["submitted"], stats["dropped"]) == (10_000, 0)
    assert down <= 2 * 11


def test_pauses_grow_twofold_up_to_five_minutes_and_are_drawn_evenly():
    clock = Clock()
    sender = Sender(Scripted(), batch=1, clock=clock, rng=random.Random(3))
    longest = []
    for failure in range(1, 14):
        draws = []
        for _ in range(300):
            sender.failures = failure - 1
            sender._wait(None)
            draws.append(sender.pause())
        ceiling = min(300, 2 ** (failure - 1))
        assert 0.95 * ceiling < max(draws) <= ceiling
        assert 0.4 * ceiling < sum(draws) / len(draws) < 0.6 * ceiling
        longest.append(max(draws))
    assert longest[-1] > 290


def test_success_ends_the_growing_of_pauses(tmp_path):
    clock = Clock()
    sink = Scripted(*[RETRY] * 6)
    with delivery(tmp_path, sink, clock=clock) as sending:
        sending.submit([event()])
        for _ in range(7):
            sending.pump()
            clock.now += 300
        assert len(sink.sent) == 7
        assert sending._senders["scripted"].failures == 0


def test_a_sink_that_fails_in_any_way_is_asked_again_and_tells_no_secret(tmp_path, caplog):
    class Odd:
        status, reason, retry_after, rejected_ids = "retry", "odd", "soon", None

    clock = Clock()
    sink = Scripted(ValueError("s3cret-token"), Odd(), None)
    with delivery(tmp_path, sink, clock=clock) as sending:
        sending.submit([event()])
        for _ in range(4):
            sending.pump()
            clock.now += 300
        assert sink.sent == [["evt-0"]] * 4
        assert sending.flush(1)
    assert "the sink failed with ValueError" in caplog.text
    assert "s3cret-token" not in caplog.text


def test_the_same_trouble_is_logged_once(tmp_path, caplog):
    clock = Clock()
    sink = Scripted(RETRY, RETRY, RETRY)
    with delivery(tmp_path, sink, clock=clock) as sending:
        sending.submit([event()])
        for _ in range(4):
            sending.pump()
            clock.now += 300
    assert caplog.text.count("SIEM scripted: busy; events are kept") == 1


def test_a_batch_refused_without_names_is_halved_until_the_bad_one_is_found(tmp_path):
    class Picky:
        name = "picky"

        def send(self, events):
            if any(e["event_id"] == "evt-5" for e in events):
                return Outcome("rejected", "cannot read this")
            return Outcome("accepted")

    with delivery(tmp_path, Picky()) as sending:
        sending.submit([event(n) for n in range(16)])
        assert sending.flush(5)
        (letter,) = sending.dead_letters()
        assert (letter["event_id"], letter["reason"]) == ("evt-5", "cannot read this")
        assert sending.stats()["sinks"]["picky"]["delivered"] == 15


def test_a_busy_siem_in_the_middle_of_halving_is_left_alone(tmp_path):
    sink = Scripted(Outcome("rejected", "which?"), Outcome("retry", "busy", 30.0))
    with delivery(tmp_path, sink, clock=Clock()) as sending:
        sending.submit([event(n) for n in range(4)])
        for _ in range(5):
            sending.pump()
        assert len(sink.sent) == 2
        assert sending.stats()["sinks"]["scripted"]["pending"] == 4


def test_dead_letters_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("modelward.siem.spool.DEAD_MOST", 3)
    refusals = [Outcome("rejected", "no")] * 6
    with delivery(tmp_path, Scripted(*refusals), batch=1) as sending:
        sending.submit([event(n) for n in range(6)])
        assert sending.flush(5)
        assert [x["event_id"] for x in sending.dead_letters()] == ["evt-3", "evt-4", "evt-5"]


def test_a_full_spool_drops_counts_and_says_so_once(tmp_path, caplog):
    with delivery(tmp_path, Scripted(*[RETRY] * 99), capacity=10, clock=Clock()) as sending:
        for number in range(15):
            sending.submit([event(number)])
        stats = sending.stats()
        assert (stats["submitted"], stats["dropped"]) == (15, 5)
        assert stats["sinks"]["scripted"]["pending"] == 10
        sending.close(0)
    assert caplog.text.count("SIEM: events are dropped from now on") == 1
    assert "the spool holds 10 events" in caplog.text


def test_what_waits_for_a_siem_that_was_given_up_leaves_room_for_its_successor(tmp_path):
    with delivery(tmp_path, Scripted(*[RETRY] * 9, name="old"), capacity=10, clock=Clock()) as old:
        old.submit([event(n) for n in range(10)])
        old.pump()
        old.close(0)
    sink = Scripted(name="new")
    with delivery(tmp_path, sink, capacity=10) as new:
        new.submit([event(n) for n in range(100, 105)])
        assert new.flush(5)
        assert new.stats()["dropped"] == 0
    assert [n for batch in sink.sent for n in batch] == [f"evt-{n}" for n in range(100, 105)]


def test_a_spool_at_its_bytes_still_sends_and_then_takes_in_again(tmp_path):
    sink = Scripted(*[RETRY] * 1)
    limit = 2_000_000
    with delivery(tmp_path, sink, most_bytes=limit, memory=50, clock=Clock()) as sending:
        for number in range(400):
            sending.submit([event(number, raw_message="x" * 10_000)])
            if number % 20 == 0:
                sending.pump()
        stats = sending.stats()
        assert stats["dropped"] > 0
        assert stats["in_memory"] <= 50
        kept = 400 - stats["dropped"]
        assert 150 < kept < 300
        assert (tmp_path / "spool.db").stat().st_size < 2 * limit
        sending._senders["scripted"].not_before = 0
        assert sending.flush(20)
        sending.submit([event(1000)])
        assert sending.flush(5)
    sent = {name for batch in sink.sent for name in batch}
    assert len(sent) == kept + 1


def test_the_memory_queue_is_bounded_counted_and_brought_to_disk(tmp_path):
    other = None
    with delivery(tmp_path, Scripted(*[RETRY] * 9), memory=5, clock=Clock()) as sending:
        other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(8):
            sending.submit([event(number)])
        stats = sending.stats()
        assert (stats["in_memory"], stats["overflowed"], stats["dropped"]) == (5, 5, 3)
        other.execute("ROLLBACK")
        sending.pump()
        stats = sending.stats()
        assert stats["in_memory"] == 0
        assert stats["sinks"]["scripted"]["pending"] == 5
        sending.close(0)
    other.close()


def test_the_memory_queue_is_bounded_in_bytes_too(tmp_path, monkeypatch):
    monkeypatch.setattr("modelward.siem.keeping.MEMORY_BYTES", 100_000)
    with delivery(tmp_path, Scripted()) as sending:
        other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(8):
            sending.submit([event(number, raw_message="x" * 30_000)])
        stats = sending.stats()
        assert (stats["in_memory"], stats["dropped"]) == (3, 5)
        other.execute("ROLLBACK")
        other.close()
        assert sending.flush(5)
        assert sending.stats()["sinks"]["scripted"]["delivered"] == 3


def test_a_lock_of_another_process_costs_a_prediction_half_a_millisecond(tmp_path):
    spool = Spool(tmp_path / "spool.db")
    other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits = []

    def watched(seconds):
        waits.append(seconds)
        real(seconds)

    real = time.sleep
    try:
        time.sleep = watched
        with pytest.raises(SpoolBusy, match="locked"):
            spool.put(["s"], 1, "{}")
    finally:
        time.sleep = real
    assert sum(waits) <= 0.00051
    other.close()
    spool._link._lock.acquire()
    with pytest.raises(SpoolBusy, match="locked by a thread"):
        spool.put(["s"], 1, "{}")
    spool._link._lock.release()
    spool.close()


@pytest.mark.parametrize("place", ["folder is a file", "file is no spool", "no such place"])
def test_where_there_can_be_no_spool_events_are_sent_from_memory(tmp_path, place, caplog):
    path = tmp_path / "folder" / "spool.db"
    if place == "folder is a file":
        (tmp_path / "folder").write_text("x")
    else:
        path.parent.mkdir()
        path.write_text("this is somebody's letter, not a database " * 30)
    if place == "no such place":
        path.unlink()
        path.parent.rmdir()
        path = tmp_path / "no\0where" / "spool.db"
    sink = Scripted(RETRY)
    sending = Delivery([sink], path, start=False)
    sending.submit([event(n) for n in range(3)])
    assert sending.flush(5)
    sending.close()
    assert sink.sent[-1] == ["evt-0", "evt-1", "evt-2"]
    assert caplog.text.count("the spool cannot be used, events are sent from memory") == 1
    if place == "file is no spool":
        assert path.read_text().startswith("this is somebody's letter")


FULL_DISK = """
import json, logging, resource, signal, sys
sys.path[:0] = json.loads(sys.argv[1])
from siem_helpers import delivery, event, Scripted
from pathlib import Path
logging.basicConfig(level="ERROR")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = Scripted()
sending = delivery(Path(sys.argv[2]), sink)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
for number in range(300):
    sending.submit([event(number, raw_message="x" * 3_000)])
held = sending.stats()
ok = sending.flush(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ok = sending.flush(20)
sent = [name for batch in sink.sent for name in batch]
print(json.dumps({"sent": len(sent), "different": len(set(sent)), "ok": ok, "held": held}))
sending.close()
"""


def test_a_full_disk_loses_nothing_repeats_nothing_without_end_and_breaks_nothing(tmp_path):
    paths = [p for p in sys.path if p]
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, json.dumps(paths), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    got = json.loads(run.stdout)
    assert got["ok"], got
    assert got["different"] == 300
    assert got["sent"] < 2_000
    assert got["held"]["in_memory"] > 0
    assert got["held"]["dropped"] == 0
    assert run.stderr.count("the spool cannot be used, events are sent from memory") == 1


def test_what_the_spool_could_not_note_is_not_sent_without_end(tmp_path, monkeypatch):
    sink = Scripted()
    clock = Clock()
    with delivery(tmp_path, sink, clock=clock) as sending:
        sending.submit([event()])
        spool = sending._keeper.spool

        def full(*_):
            raise SpoolBusy("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(spool, "done", full)
            for _ in range(20):
                sending.pump()
                clock.now += 400
        assert sink.sent == [["evt-0"]]
        sending.pump()
        assert sending.stats()["sinks"]["scripted"]["pending"] == 0
    assert sink.sent == [["evt-0"]]


@pytest.mark.parametrize(
    "body", ["no json", '{"rows": []}', '{"base": {}, "rows": [1]}', "[1]", '{"base":{},"rows":5}']
)
def test_a_call_that_cannot_be_read_does_not_hold_up_the_next(tmp_path, body):
    sink = Scripted()
    with delivery(tmp_path, sink) as sending:
        sending._keeper.spool.put(["scripted"], 1, body)
        sending.submit([event(1)])
        assert sending.flush(5)
        (letter,) = sending.dead_letters()
    assert letter["reason"].startswith("unreadable: ")
    assert sink.sent == [["evt-1"]]


def test_nothing_that_is_submitted_raises(tmp_path, caplog):
    class Hostile:
        def fields(self):
            raise RuntimeError("no")

        def __str__(self):
            raise RuntimeError("no")

    circle = {}
    circle["circle"] = circle
    with delivery(tmp_path, Scripted()) as sending:
        sending.submit([Hostile()])
        sending.submit_rows({}, [circle])
        sending.submit_rows({}, [{"event_id": Hostile()}])
        sending.submit_rows({}, [{("a", "b"): 1}])
        assert sending.stats()["dropped"] == 4
    sending.submit([event()])
    assert sending.stats()["dropped"] == 5


def test_the_write_ahead_log_is_brought_in_while_it_goes(tmp_path):
    with delivery(tmp_path, Scripted()) as sending:
        largest = 0
        for number in range(120):
            sending.submit([event(100 * number + n, raw_message="x" * 500) for n in range(100)])
            sending.pump()
            largest = max(largest, (tmp_path / "spool.db-wal").stat().st_size)
        assert sending.flush(10)
    assert largest < 6 * LOG_BYTES
    assert not (tmp_path / "spool.db-wal").exists()


def test_the_spool_is_for_its_owner_only(tmp_path):
    with Delivery([Scripted()], tmp_path / "state" / "spool.db", start=False) as sending:
        sending.submit([event()])
        modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "state").iterdir()}
    assert modes["spool.db"] == modes["spool.db-wal"] == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_thread_that_stumbles_says_so_once_and_goes_on(tmp_path, monkeypatch, caplog):
    calls = []
    sink = Scripted()
    real = Delivery.pump

    def stumbling(self, name=None):
        calls.append(name)
        if len(calls) < 3:
            raise RuntimeError("unforeseen")
        return real(self, name)

    monkeypatch.setattr(Delivery, "pump", stumbling)
    with delivery(tmp_path, sink, start=True) as sending:
        sending.submit([event()])
        assert sending.flush(10)
        assert 3 <= len(calls) < 200
    assert caplog.text.count("the sending thread stumbled and goes on") == 1
    assert sink.sent == [["evt-0"]]


def test_threads_send_without_being_asked_and_end_with_the_delivery(tmp_path):
    arrived = threading.Event()

    class Telling(Scripted):
        def send(self, events):
            arrived.set()
            return super().send(events)

    sending = delivery(tmp_path, Telling(), start=True)
    sending.submit([event()])
    assert arrived.wait(10)
    threads = sending._threads
    sending.close()
    assert not any(thread.is_alive() for thread in threads)


def test_close_does_not_wait_for_a_sink_that_hangs(tmp_path):
    asked, release, answered = threading.Event(), threading.Event(), threading.Event()

    class Hanging(Scripted):
        def send(self, events):
            asked.set()
            release.wait(60)
            answered.set()
            return super().send(events)

    sending = delivery(tmp_path, Hanging(), start=True)
    sending.submit([event()])
    assert asked.wait(10)
    sending.close(0.3)
    assert not answered.is_set()
    release.set()
    assert sending.stats()["sinks"]["scripted"]["pending"] == 1


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_sinks_need_different_names(tmp_path, names):
    with pytest.raises(ValueError, match="sinks: expected one or more with different names"):
        Delivery([Scripted(name=name) for name in names], tmp_path / "spool.db")
