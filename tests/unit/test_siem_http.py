"""The sender against the strict sink over real HTTP."""

import json
import re
import socket
import subprocess
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from siem_helpers import Clock, delivery, event, sentinel, splunk

from modelward.siem import Delivery
from modelward.siem.transport import Poster
from modelward.siem_sink import LocalSink


@pytest.fixture
def sink():
    with LocalSink() as running:
        yield running


@pytest.mark.parametrize("make", [sentinel, splunk])
def test_an_event_arrives_field_by_field(sink, tmp_path, make):
    one = event(timestamp="2026-09-15T10:11:12.345Z", probability=0.9149)
    with Delivery([make(sink)], tmp_path / "spool.db") as sending:
        sending.submit([one])
        assert sending.flush(10)
        stats = sending.stats()["sinks"][make(sink).name]
    assert stats == {"delivered": 1, "pending": 0, "dead": 0, "last_error": ""}
    assert sink.events == [
        {
            "RawMessage": "Image Classification AI Model Extraction Attack Identified",
            "service_name": "image_classification_extraction_defense_engine",
            "asset_id": "model-1",
            "source_name": "198.51.100.7",
            "probability": 0.91,
            "attack_name": "model_attack",
            "timestamp": "2026-09-15T10:11:12.345Z",
            "SuspiciousLevel": "high suspicious attack",
            "Computer": "host-1",
            "event_id": "evt-0",
            "model_id": "model-1",
            "job_id": "job-1",
            "defense_version": "0.1.0",
            "rows": 1,
        }
    ]
    (request,) = sink.requests
    if make is sentinel:
        assert request.question.headers["log-type"] == "AIShield"
        assert request.question.headers["time-generated-field"] == "timestamp"
    else:
        whole = json.loads(request.question.body)
        seconds = datetime.fromisoformat("2026-09-15T10:11:12.345+00:00").timestamp()
        assert whole["time"] == pytest.approx(seconds, abs=1e-3)
        assert (whole["host"], whole["sourcetype"]) == ("host-1", "AIShield")


def test_both_siems_get_every_event_and_each_goes_on_without_the_other(sink, tmp_path):
    sink.fail(protocol="sentinel", times=-1, status=503)
    with delivery(tmp_path, sentinel(sink), splunk(sink)) as sending:
        sending.submit([event(n) for n in range(3)])
        sending.pump()
        assert len(sink.splunk_events) == 3
        assert sink.sentinel_events == []
        sink.clear_faults()
        assert sending.flush(5)
        assert [e["event_id"] for e in sink.sentinel_events] == ["evt-0", "evt-1", "evt-2"]
        assert sink.duplicates == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (sentinel, r"refused the credentials \(403 .*InvalidAuthorization.*azure_log_shared_key"),
        (splunk, r"refused the credentials \(403 .*Invalid token.*check authorization"),
    ],
)
def test_refused_credentials_are_named_and_events_kept(tmp_path, make, words, caplog):
    clock = Clock()
    with LocalSink(clock=clock) as sink:
        poorer = LocalSink()  # other credentials, never started
        wrong = make(poorer, endpoint=sink.url) if make is sentinel else make(sink)
        if make is splunk:
            wrong._token = poorer.token
        wrong._clock = clock
        with delivery(tmp_path, wrong, clock=clock) as sending:
            sending.submit([event()])
            sending.pump()
            sending.pump()
            stats = sending.stats()["sinks"][wrong.name]
            assert stats["pending"] == 1
            assert re.search(words, stats["last_error"])
            assert len(sink.requests) == 1  # asked to be left alone for a minute
            clock.now += 62
            sending.pump()
            assert len(sink.requests) == 2
        poorer.close()
    text = caplog.text + repr(wrong) + repr(sending) + stats["last_error"]
    assert poorer.shared_key not in text
    assert poorer.token not in text
    assert caplog.text.count("refused the credentials") == 1


def test_retry_after_is_honoured_to_the_second(sink, tmp_path):
    clock = Clock()
    sink.fail(times=2, status=429, retry_after=7)
    with delivery(tmp_path, splunk(sink), clock=clock) as sending:
        sending.submit([event()])
        for wait, asked in ((0, 1), (6.9, 1), (1.2, 2), (6.9, 2), (1.2, 3)):
            clock.now += wait
            sending.pump()
            assert len(sink.requests) == asked
        assert [r.answer.status for r in sink.requests] == [429, 429, 200]
        assert len(sink.splunk_events) == 1


def test_flush_and_close_leave_a_siem_alone_that_asked_for_it(sink, tmp_path):
    sink.fail(times=-1, status=429, retry_after=600)
    sending = delivery(tmp_path, splunk(sink))
    sending.submit([event()])
    sending.pump()
    assert not sending.flush(30)  # at once, not after 30 seconds
    sending.close()
    assert len(sink.requests) == 1


@pytest.mark.parametrize("wish", ["99999999999", "9" * 400, "²", "-5", "soon", "999999999"])
def test_no_header_silences_the_sender_for_good(sink, tmp_path, wish):
    clock = Clock()
    sink.fail(status=503, retry_after=wish)
    with delivery(tmp_path, splunk(sink), clock=clock) as sending:
        sending.submit([event()])
        sending.pump()
        clock.now += 3602
        sending.pump()
        assert len(sink.splunk_events) == 1


def test_retry_after_as_a_date_goes_by_the_clock_of_the_receiver(tmp_path):
    clock = Clock()
    with LocalSink(clock=clock) as sink:
        sink.fail(status=503, retry_after="Mon, 21 Sep 2026 13:33:50 GMT")
        clock.now = datetime.fromisoformat("2026-09-21T13:33:20+00:00").timestamp()
        with delivery(tmp_path, splunk(sink), clock=clock) as sending:
            sending.submit([event()])
            sending.pump()
            assert 30 <= sending.pause("splunk") <= 31


@pytest.mark.parametrize("off", [-86_400.0, 5_000.0])
def test_a_wrong_clock_is_noticed_and_got_over(tmp_path, off, caplog):
    clock = Clock()
    with LocalSink(clock=clock) as sink:
        sink.skew = off
        with delivery(tmp_path, sentinel(sink, clock=clock), clock=clock) as sending:
            sending.submit([event()])
            sending.pump()
            assert f"its clock differs by {off:+.0f} s" in caplog.text
            clock.now += 2
            sending.pump()
            assert [r.answer.status for r in sink.requests] == [403, 200]


@pytest.mark.parametrize("make", [sentinel, splunk])
@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        ("Überfall 攻撃 🛡 \u202e \x00 \n\t\"'", None),
        ("half \ud83d and \udc80 half", "half ? and ? half"),
        ("x" * 30_000, None),
        ("é" * 15_000, None),
    ],
)
def test_any_text_arrives(sink, tmp_path, make, text, arrives):
    with delivery(tmp_path, make(sink)) as sending:
        sending.submit([event(raw_message=text, computer=text[:40]), event(1)])
        assert sending.flush(10), sending.stats()
    assert sink.events[0]["RawMessage"] == (arrives or text)
    assert len(sink.events) == 2


def test_what_sentinel_would_cut_without_a_word_is_cut_with_one(sink, tmp_path):
    with delivery(tmp_path, sentinel(sink)) as sending:
        sending.submit([event(raw_message="é" * 40_000)])
        assert sending.flush(10)
    got = sink.events[0]["RawMessage"]
    assert got.endswith("bytes cut]")
    assert len(got.encode()) <= 32_768


@pytest.mark.parametrize("make", [sentinel, splunk])
def test_long_events_go_in_posts_of_about_a_megabyte(sink, tmp_path, make):
    with delivery(tmp_path, make(sink)) as sending:
        sending.submit([event(n, raw_message="x" * 30_000) for n in range(100)])
        assert sending.flush(20)
    assert len(sink.events) == 100
    assert max(len(r.question.body) for r in sink.requests) < 1_100_000


@pytest.mark.parametrize("make", [sentinel, splunk])
def test_malformed_events_are_put_aside_with_the_reason_and_the_others_arrive(
    sink, tmp_path, make, caplog
):
    bad = {3, 4, 17}
    with delivery(tmp_path, make(sink)) as sending:
        sending.submit([event(n, probability=2.0 if n in bad else 0.9) for n in range(20)])
        assert sending.flush(20)
        letters = sending.dead_letters()
        assert sending.stats()["sinks"][make(sink).name]["dead"] == 3
    assert {letter["event_id"] for letter in letters} == {f"evt-{n}" for n in bad}
    assert all("400" in letter["reason"] for letter in letters)
    assert letters[0]["event"]["probability"] == 2.0
    assert {e["event_id"] for e in sink.events} == {f"evt-{n}" for n in set(range(20)) - bad}


def test_an_event_refused_on_demand_is_the_only_one_put_aside(sink, tmp_path):
    sink.fail(times=-1, reject=lambda fields: fields["event_id"] == "evt-2")
    with delivery(tmp_path, splunk(sink)) as sending:
        sending.submit([event(n) for n in range(5)])
        assert sending.flush(10)
        (letter,) = sending.dead_letters()
    assert letter["event_id"] == "evt-2"
    assert letter["reason"] == "Splunk answered 400 Invalid data format (code 6)"
    assert len(sink.events) == 4


@pytest.mark.parametrize("make", [sentinel, splunk])
def test_an_answer_cut_in_the_middle_costs_a_repetition_and_no_event(sink, tmp_path, make):
    sink.fail(cut=True)
    with delivery(tmp_path, make(sink)) as sending:
        sending.submit([event(n) for n in range(4)])
        sending.pump()
        assert "was not reached" in sending.stats()["sinks"][make(sink).name]["last_error"]
        assert sending.flush(10)
    assert len(sink.events) == 4
    assert sink.duplicates == 4


def test_a_receiver_that_says_nothing_is_given_up(sink, tmp_path):
    sink.fail(hang=30)
    with delivery(tmp_path, splunk(sink, poster=Poster(timeout=0.3))) as sending:
        sending.submit([event()])
        sending.pump()
        assert "timed out" in sending.stats()["sinks"]["splunk"]["last_error"]
        assert sending.flush(10)
    assert len(sink.events) == 1


@pytest.mark.parametrize("make", [sentinel, splunk])
def test_a_web_page_with_status_200_is_no_success(sink, tmp_path, make):
    sink.fail(status=200, body="<!doctype html><title>Sign in to the network</title>")
    with delivery(tmp_path, make(sink)) as sending:
        sending.submit([event()])
        sending.pump()
        stats = sending.stats()["sinks"][make(sink).name]
        assert (stats["delivered"], stats["pending"]) == (0, 1)
        assert "is the address right?" in stats["last_error"]


def test_a_refusal_of_the_settings_keeps_events(sink, tmp_path):
    sink.fail(status=400, body='{"text": "Incorrect index", "code": 7, "invalid-event-number": 0}')
    sink.fail(status=400, body='{"text": "Query string ...", "code": 16}')
    clock = Clock()
    with delivery(tmp_path, splunk(sink), clock=clock) as sending:
        sending.submit([event()])
        for _ in range(3):
            sending.pump()
            clock.now += 62
        assert sending.dead_letters() == []
    assert [r.answer.status for r in sink.requests] == [400, 400, 200]


def test_what_the_receiver_says_is_logged_without_the_token_and_without_escapes(
    sink, tmp_path, caplog
):
    sink.fail(status=403, body=f"\x1b[2J no token {sink.token} here")
    with delivery(tmp_path, splunk(sink)) as sending:
        sending.submit([event()])
        sending.pump()
        said = sending.stats()["sinks"]["splunk"]["last_error"]
    assert "(403 ?[2J no token *** here)" in said
    assert said in caplog.text
    assert sink.token not in caplog.text


def test_a_wish_for_no_pause_at_all_is_not_taken_at_its_word(sink, tmp_path):
    clock = Clock()
    sink.fail(times=-1, status=429, retry_after=0)
    with delivery(tmp_path, splunk(sink), clock=clock) as sending:
        sending.submit([event()])
        for _ in range(1000):
            sending.pump()
            clock.now += 1
        sending.close(0)
    assert 5 < len(sink.requests) < 30


def test_a_redirect_does_not_carry_credentials_elsewhere(sink, tmp_path):
    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", sink.url + "/services/collector/event")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        hec = splunk(sink)
        hec._url = f"http://127.0.0.1:{server.server_port}/services/collector/event"
        outcome = hec.send([event().fields()])
    finally:
        server.shutdown()
        server.server_close()
    assert outcome.status == "retry"
    assert "answered 307" in outcome.reason
    assert sink.requests == []


def test_loopback_does_not_go_through_a_proxy(sink, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert splunk(sink).send([event().fields()]).status == "accepted"


def test_splunk_confirms_where_acknowledgement_is_wanted():
    with LocalSink(acknowledge=True) as sink:
        sink.splunk.questions_before_ack = 2
        waits = []
        hec = splunk(sink, acknowledge=True, wait=waits.append)
        assert hec.send([event().fields()]).status == "accepted"
        assert waits == [0.2, 0.4]
        sink.splunk.questions_before_ack = 10**6
        outcome = hec.send([event(1).fields()])
    assert outcome.status == "retry"
    assert "did not acknowledge them within 60 s" in outcome.reason
    assert 60 <= sum(waits) < 70


def test_a_token_that_wants_acknowledgement_gets_a_channel(tmp_path):
    with LocalSink(acknowledge=True) as sink, delivery(tmp_path, splunk(sink)) as sending:
        sending.submit([event()])
        assert sending.flush(10)
        assert len(sink.splunk_events) == 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA, and a certificate of 127.0.0.1 that it signed."""
    folder = tmp_path_factory.mktemp("ca")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA",
            "-days", "30")  # fmt: skip
    openssl("req", *curve, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=sink")
    openssl("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "30",
            "-CAcreateserial", "-out", "cert.pem", "-extfile", "names")  # fmt: skip
    return folder


@pytest.mark.parametrize("make", [sentinel, splunk])
def test_a_private_authority_is_trusted_only_where_it_is_given(authority, make):
    with LocalSink(certfile=authority / "cert.pem", keyfile=authority / "key.pem") as sink:
        assert sink.url.startswith("https://")
        refused = make(sink).send([event().fields()])
        assert refused.status == "retry"
        assert "CERTIFICATE_VERIFY_FAILED" in refused.reason
        assert sink.requests == []
        trusted = make(sink, ca_bundle=str(authority / "ca.pem"))
        assert trusted.send([event().fields()]).status == "accepted"
        with pytest.raises(ValueError, match="ca_bundle: expected a readable PEM file"):
            make(sink, ca_bundle=str(authority / "names"))


def test_a_certificate_for_another_name_is_refused(authority):
    with LocalSink(
        "localhost", certfile=authority / "cert.pem", keyfile=authority / "key.pem"
    ) as s:
        port = s.url.rpartition(":")[2]
        hec = splunk(s, ca_bundle=str(authority / "ca.pem"))
        hec._url = f"https://localhost:{port}/services/collector/event"
        outcome = hec.send([event().fields()])
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason


def test_nobody_listening_is_said(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sink = LocalSink()
    sink.close()
    hec = splunk(sink)
    hec._url = f"http://127.0.0.1:{port}/services/collector/event"
    outcome = hec.send([event().fields()])
    assert outcome.status == "retry"
    assert "Splunk was not reached: ConnectionRefusedError" in outcome.reason
