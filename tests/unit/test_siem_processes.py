"""Several processes, forks, and ends of all kinds."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading

from siem_helpers import Scripted, delivery, event, splunk

from modelward.siem import Delivery, Spool
from modelward.siem.spool_file import ended
from modelward.siem_sink import LocalSink

START = """
import json, os, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from siem_helpers import Scripted, delivery, event
from modelward.siem import DataCollector, Delivery, SplunkCollector
spool, url, token = sys.argv[2:5]
hec = SplunkCollector(url, token)
"""


def start(body, spool, sink):
    script = START + textwrap.dedent(body)
    paths = json.dumps([p for p in sys.path if p])
    return subprocess.Popen(
        [sys.executable, "-c", script, paths, str(spool), sink.url, sink.token],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def test_killed_in_mid_send_the_next_process_sends_the_rest(tmp_path):
    with LocalSink() as sink:
        sink.fail(cut=True)  # the first batch arrives, but its sender does not get to know
        sink.fail(hang=60)  # the second is under way when the process dies
        process = start(
            """
            sending = Delivery([hec], spool, batch=50)
            for number in range(300):
                sending.submit([event(number)])
            print("all in", flush=True)
            time.sleep(60)
            """,
            tmp_path / "spool.db",
            sink,
        )
        assert process.stdout.readline() == "all in\n"
        assert sink.wait_requests(2, 30)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        assert len(sink.splunk_events) <= 50
        sink.clear_faults()
        with Delivery([splunk(sink)], tmp_path / "spool.db") as sending:
            assert sending.flush(30)  # leases of the dead process do not hold it up
        assert {e["event_id"] for e in sink.splunk_events} == {f"evt-{n}" for n in range(300)}
        assert 1 <= sink.duplicates <= 50


def test_two_processes_share_a_spool_without_sending_twice(tmp_path):
    body = """
    first = FIRST
    with Delivery([hec], spool, batch=20) as sending:
        for number in range(first, first + 200):
            sending.submit([event(number)])
            if number % 10 == 0:
                time.sleep(0.001)
        assert sending.flush(40), sending.stats()
        print(json.dumps(sending.stats()))
    """
    with LocalSink() as sink:
        spool = tmp_path / "spool.db"
        both = [start(body.replace("FIRST", str(first)), spool, sink) for first in (0, 200)]
        stats = [json.loads(finish(process)) for process in both]
        assert {e["event_id"] for e in sink.splunk_events} == {f"evt-{n}" for n in range(400)}
        assert sink.duplicates == 0
        assert sum(s["sinks"]["splunk"]["delivered"] for s in stats) == 400


def test_a_fork_after_construction_delivers_from_both_sides(tmp_path):
    with LocalSink() as sink:
        process = start(
            """
            sending = Delivery([hec], spool)
            sending.submit([event(0)])
            child = os.fork()
            for number in range(1, 50):
                sending.submit([event(number if child else 100 + number)])
            if not child:
                flushed = sending.flush(30)
                stats = sending.stats()
                os._exit(0 if flushed and stats["submitted"] == 49 else 9)
            assert os.waitpid(child, 0)[1] == 0
            assert sending.flush(30)
            assert sending.stats()["submitted"] == 50
            sending.close()
            """,
            tmp_path / "spool.db",
            sink,
        )
        finish(process)
        wanted = {f"evt-{n}" for n in [*range(50), *range(101, 150)]}
        assert {e["event_id"] for e in sink.splunk_events} == wanted


def test_a_child_that_ends_at_once_leaves_its_events_to_the_parent(tmp_path):
    # As the workers of multiprocessing do: without atexit, without flush.
    with LocalSink() as sink:
        process = start(
            """
            sending = Delivery([hec], spool)
            for round in range(5):
                child = os.fork()
                if not child:
                    sending.submit([event(round)])
                    os._exit(0)
                os.waitpid(child, 0)
            deadline = time.monotonic() + 30
            while sending.stats()["sinks"]["splunk"]["pending"] and time.monotonic() < deadline:
                time.sleep(0.05)
            assert sending.flush(30)
            """,
            tmp_path / "spool.db",
            sink,
        )
        finish(process)
        assert {e["event_id"] for e in sink.splunk_events} == {f"evt-{n}" for n in range(5)}


def test_a_parent_that_closes_first_takes_nothing_from_its_child(tmp_path):
    # SQLite's state must not cross the fork: the last to close removes the log, and a child that
    # shared the parent's locks would go on writing into the removed one.
    with LocalSink() as sink:
        sink.fail(times=-1, status=503)
        process = start(
            """
            sending = Delivery([hec], spool)
            read, write = os.pipe()
            child = os.fork()
            if not child:
                sending.submit([event(1)])
                os.read(read, 1)
                sending.submit([event(2)])
                os._exit(0)
            sending.submit([event(0)])
            time.sleep(0.3)
            sending.close(0)
            os.write(write, b"x")
            assert os.waitpid(child, 0)[1] == 0
            """,
            tmp_path / "spool.db",
            sink,
        )
        finish(process)
    spool = Spool(tmp_path / "spool.db")
    assert spool.pending("splunk") == 3
    spool.close()


def test_what_nobody_closed_is_sent_at_the_end_of_the_interpreter(tmp_path):
    with LocalSink() as sink:
        process = start(
            """
            def forgetful():
                Delivery([hec], spool).submit([event(1), event(2)])
            forgetful()
            """,
            tmp_path / "spool.db",
            sink,
        )
        finish(process)
        assert len(sink.splunk_events) == 2


def test_threads_fork_and_predict_at_the_same_time(tmp_path):
    with LocalSink() as sink:
        process = start(
            """
            import threading
            sending = Delivery([hec], spool)
            def forking():
                for _ in range(5):
                    child = os.fork()
                    if not child:
                        os._exit(0)
                    os.waitpid(child, 0)
            def predicting(first):
                for number in range(first, first + 100):
                    sending.submit([event(number)])
            work = [threading.Thread(target=forking) for _ in range(2)]
            work += [threading.Thread(target=predicting, args=(n * 100,)) for n in range(3)]
            [t.start() for t in work]
            [t.join(40) for t in work]
            assert not any(t.is_alive() for t in work)
            assert sending.flush(30), sending.stats()
            assert sending.stats()["dropped"] == 0
            """,
            tmp_path / "spool.db",
            sink,
        )
        finish(process)
        assert {e["event_id"] for e in sink.splunk_events} == {f"evt-{n}" for n in range(300)}


def test_leases_hold_others_off_until_they_end(tmp_path):
    now = [1000.0]
    one = Spool(tmp_path / "spool.db", clock=lambda: now[0])
    two = Spool(tmp_path / "spool.db", clock=lambda: now[0])
    one.put(["s"], 1, json.dumps({"base": {}, "rows": [{"event_id": "a"}]}))
    one.absorb()
    assert len(one.take("s", 9)) == 1
    assert two.take("s", 9) == []
    assert len(one.take("s", 9)) == 1  # its own lease does not hold it off
    now[0] += 121
    assert len(two.take("s", 9)) == 1
    two.release("s")
    assert len(one.take("s", 9)) == 1
    one.done("s", [1])
    assert not two.waiting("s")
    one.close()
    two.close()


def test_an_event_leaves_when_the_last_sink_has_it(tmp_path):
    spool = Spool(tmp_path / "spool.db")
    spool.put(["a", "b"], 1, json.dumps({"base": {"x": 1}, "rows": [{"event_id": "e"}]}))
    spool.absorb()
    (row,) = spool.take("a", 9)
    assert row[1] == {"x": 1, "event_id": "e"}
    spool.done("a", [row[0]])
    assert (spool.pending("a"), spool.pending("b"), spool.stored) == (0, 1, 1)
    spool.bury("b", [row[0]], "why")
    assert (spool.pending("b"), spool.stored) == (0, 0)
    assert spool.dead("a") == []
    (letter,) = spool.dead("b")
    assert (letter["reason"], letter["event"]["x"]) == ("why", 1)
    spool.close()


def test_leases_of_ended_processes_only_are_void():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(30)
    host = os.uname().nodename
    assert ended(f"{host}:{gone.pid}:abc")
    assert not ended(f"{host}:{os.getpid()}:abc")
    assert not ended(f"elsewhere:{gone.pid}:abc")
    assert not ended("nonsense")
    assert not ended(None)


def test_a_spool_of_the_last_version_of_a_process_is_read(tmp_path):
    with delivery(tmp_path, Scripted()) as sending:
        sending._keeper.spool.put(
            ["scripted", "gone"], 1, json.dumps({"base": {}, "rows": [{"event_id": "x"}]})
        )
        assert sending.flush(5)
    # What a sink that is no longer configured has not got stays for it.
    db = sqlite3.connect(tmp_path / "spool.db")
    assert db.execute("SELECT sink FROM pending").fetchall() == [("gone",)]
    db.close()


def test_after_close_nothing_is_sent_and_the_loss_is_counted(tmp_path, caplog):
    sink = Scripted()
    sending = delivery(tmp_path, sink)
    sending.close()
    sending.close()
    sending.submit([event()])
    assert sink.sent == []
    assert sending.stats()["dropped"] == 1
    assert "they came after close()" in caplog.text


def test_events_that_come_while_it_closes_arrive_or_are_counted(tmp_path):
    sink = Scripted()
    sending = delivery(tmp_path, sink, start=True)
    begun = threading.Event()

    def predicting():
        for number in range(3000):
            sending.submit([event(number)])
            begun.set()

    thread = threading.Thread(target=predicting)
    thread.start()
    assert begun.wait(10)
    sending.close()
    thread.join(60)
    stats = sending.stats()
    spool = Spool(tmp_path / "spool.db")
    left = spool.pending("scripted")
    spool.close()
    assert stats["submitted"] == 3000
    sent = {name for batch in sink.sent for name in batch}
    assert len(sent) + left + stats["dropped"] >= 3000
