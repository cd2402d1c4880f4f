"""The local sink refuses what the services refuse, with their words."""

import base64
import hashlib
import json
import urllib.error
import urllib.request
from email.utils import formatdate

import pytest
from siem_helpers import Clock, event, splunk

from modelward.siem_sink import LocalSink
from modelward.siem_sink.data_collector import expected_signature

FIELDS = event().fields()


def post(url, body, headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def hmac_by_hand(key, text):
    """RFC 2104 from its definition, with nothing but the hash."""
    key = (key if len(key) <= 64 else hashlib.sha256(key).digest()).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + text.encode("utf-8")).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()


def test_hmac_by_hand_meets_rfc_4231():
    digest = hmac_by_hand(b"Jefe", "what do ya want for nothing?").hex()
    assert digest == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


@pytest.mark.parametrize("size", [16, 64, 100])
def test_the_signature_of_the_documented_string(size):
    # The string is the worked example of Microsoft's documentation of the Data Collector API. It
    # prints no key and no signature, so the expected one comes from the documented formula.
    text = "POST\n1024\napplication/json\nx-ms-date:Mon, 04 Apr 2016 08:00:00 GMT\n/api/logs"
    key = bytes(range(size))
    wanted = base64.b64encode(hmac_by_hand(key, text)).decode()
    date = "Mon, 04 Apr 2016 08:00:00 GMT"
    assert expected_signature(key, 1024, "application/json", date) == wanted


@pytest.fixture(scope="module")
def sink():
    with LocalSink(clock=Clock()) as running:
        yield running


def signed(sink, body, **changes):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    date = changes.pop("x-ms-date", formatdate(sink.now(), usegmt=True))
    text = f"POST\n{len(data)}\napplication/json\nx-ms-date:{date}\n/api/logs"
    signature = base64.b64encode(hmac_by_hand(base64.b64decode(sink.shared_key), text)).decode()
    headers = {
        "Content-Type": "application/json",
        "Log-Type": "AIShield",
        "x-ms-date": date,
        "Authorization": f"SharedKey {sink.workspace_id}:{signature}",
        **changes,
    }
    return {name: value for name, value in headers.items() if value is not None}


def to_azure(sink, body, query="?api-version=2016-04-01", **changes):
    status, text = post(f"{sink.url}/api/logs{query}", body, signed(sink, body, **changes))
    answer = json.loads(text) if text else {}
    return status, answer.get("Error", ""), answer.get("Message", "")


@pytest.mark.parametrize("body", [[FIELDS], FIELDS, [FIELDS, {**FIELDS, "event_id": "evt-b"}]])
def test_sentinel_accepts_an_array_or_an_object(sink, body):
    sink.clear()
    assert to_azure(sink, body) == (200, "", "")
    assert len(sink.sentinel_events) == (len(body) if isinstance(body, list) else 1)
    assert sink.sentinel_events[0] == FIELDS


@pytest.mark.parametrize(
    ("changes", "query", "status", "error"),
    [
        ({}, "", 400, "MissingApiVersion"),
        ({}, "?api-version=2017-01-01", 400, "InvalidApiVersion"),
        ({"Log-Type": None}, None, 400, "MissingLogType"),
        ({"Log-Type": "AI-Shield"}, None, 400, "InvalidLogType"),
        ({"Log-Type": "a" * 101}, None, 400, "InvalidLogType"),
        ({"Content-Type": "text/plain"}, None, 400, "UnsupportedContentType"),
        ({"x-ms-date": "2016-04-04T08:00:00Z"}, None, 403, "InvalidAuthorization"),
        ({"Authorization": "SharedKey x"}, None, 403, "InvalidAuthorization"),
        ({"Authorization": "SharedKey x:AAAA"}, None, 400, "InvalidCustomerId"),
        ({"Authorization": None}, None, 403, "InvalidAuthorization"),
    ],
)
def test_sentinel_refuses_a_malformed_request(sink, changes, query, status, error):
    query = "?api-version=2016-04-01" if query is None else query
    assert to_azure(sink, [FIELDS], query, **changes)[:2] == (status, error)


@pytest.mark.parametrize(("ahead", "status"), [(899, 200), (901, 403), (-899, 200), (-901, 403)])
def test_sentinel_refuses_a_clock_that_is_a_quarter_of_an_hour_off(sink, ahead, status):
    date = formatdate(sink.now() + ahead, usegmt=True)
    answer = to_azure(sink, [FIELDS], **{"x-ms-date": date})
    assert answer[0] == status
    assert status == 200 or "differs from the service's clock" in answer[2]


def test_sentinel_refuses_a_signature_over_other_bytes(sink):
    headers = signed(sink, [FIELDS])
    url = f"{sink.url}/api/logs?api-version=2016-04-01"
    status, text = post(url, json.dumps([FIELDS]).encode() + b" ", headers)
    assert (status, json.loads(text)["Error"]) == (403, "InvalidAuthorization")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[{", "No JSON"),
        (b'[{"a": "\xff"}]', "No JSON"),
        (b"[]", "one or more records"),
        (b"[1]", "Record 0: expected an object"),
        ([FIELDS, {**FIELDS, "probability": "0.9"}], "Record 1: probability: expected a number"),
        ([{**FIELDS, "probability": True}], "probability: expected a number, got true or false"),
        ([{**FIELDS, "probability": 1.5}], "expected 0 to 1"),
        ([{**FIELDS, "probability": 0.123}], "two decimals"),
        (json.dumps([{**FIELDS, "probability": float("nan")}]).encode(), "No JSON: NaN"),
        ([{**FIELDS, "RawMessage": None}], "RawMessage: expected a text, got nothing"),
        ([{**FIELDS, "RawMessage": ["x"]}], "RawMessage: expected a text, got an array"),
        ([{k: v for k, v in FIELDS.items() if k != "Computer"}], "Computer: missing"),
        ([{**FIELDS, "timestamp": "yesterday"}], "timestamp: expected ISO 8601"),
        ([{**FIELDS, "timestamp": "2026-01-01T00:00:00"}], "with a zone"),
        ([{**FIELDS, "SuspiciousLevel": "very"}], "SuspiciousLevel: expected one of"),
        ([{**FIELDS, "rows": 0}], "rows: expected an integer from 1"),
        ([{**FIELDS, "Computer": "\ud800"}], "Computer: half of a surrogate pair"),
        ([{**FIELDS, "asset_id": "é" * 16_385}], "asset_id: 32,770 bytes"),
        ([{**FIELDS, "a b": 1}], "letters, digits and underscores"),
        ([{**FIELDS, "a" * 46: 1}], "at most 45 characters"),
        ([{**FIELDS, "TimeGenerated": "x"}], "this name is reserved"),
        ([{**FIELDS, **{f"n{i}": i for i in range(500)}}], "at most 500 columns, not 514"),
    ],
)
def test_sentinel_refuses_malformed_data(sink, body, message):
    status, error, said = to_azure(sink, body)
    assert (status, error) == (400, "InvalidDataFormat")
    assert message in said


def test_sentinel_holds_the_time_field_against_the_record(sink):
    good, bad = {"time-generated-field": "timestamp"}, {"time-generated-field": "asset_id"}
    assert to_azure(sink, [FIELDS], **good)[0] == 200
    assert to_azure(sink, [FIELDS], **bad)[1] == "InvalidDataFormat"


def test_a_post_of_more_than_30_mb_is_not_found(sink):
    assert to_azure(sink, b" " * 30_000_001)[0] == 404


def wrapped(**changes):
    whole = {"time": 1.5, "host": "h", "source": "s", "sourcetype": "AIShield", "event": FIELDS}
    return {name: value for name, value in {**whole, **changes}.items() if value is not ...}


def to_splunk(sink, body, path="/services/collector/event", **changes):
    headers = {"Authorization": f"Splunk {sink.token}", **changes}
    headers = {name: value for name, value in headers.items() if value is not None}
    status, text = post(sink.url + path, body, headers)
    return status, json.loads(text)


@pytest.mark.parametrize("path", ["/services/collector", "/services/collector/event"])
@pytest.mark.parametrize("between", [b"", b"\n", b"  \r\n"])
def test_splunk_accepts_events_in_a_row(sink, path, between):
    sink.clear()
    two = wrapped(event={**FIELDS, "event_id": "evt-b"})
    body = between.join([json.dumps(wrapped()).encode(), json.dumps(two).encode()])
    assert to_splunk(sink, body, path) == (200, {"text": "Success", "code": 0})
    assert [e["event_id"] for e in sink.splunk_events] == ["evt-0", "evt-b"]


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        (None, 401, 2),
        ("Basic abc", 401, 3),
        ("Splunk", 401, 3),
        ("Splunk 00000000-0000-0000-0000-000000000000", 403, 4),
    ],
)
def test_splunk_refuses_other_tokens(sink, authorization, status, code):
    answer = to_splunk(sink, wrapped(), Authorization=authorization)
    assert (answer[0], answer[1]["code"]) == (status, code)


def test_splunk_refuses_a_disabled_token_and_one_in_the_address(sink):
    assert to_splunk(sink, wrapped(), "/services/collector?token=x")[1]["code"] == 16
    sink.splunk.enabled = False
    try:
        assert to_splunk(sink, wrapped()) == (403, {"text": "Token disabled", "code": 1})
    finally:
        sink.splunk.enabled = True


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (wrapped(event=...), 12),
        (wrapped(event=""), 13),
        (wrapped(event={}), 13),
        (wrapped(time="noon"), 6),
        (wrapped(host=1), 6),
        (wrapped(sourcetype="other"), 6),
        (wrapped(index="secret"), 7),
        (wrapped(extra=1), 6),
        (wrapped(event={**FIELDS, "probability": "0.9"}), 6),
        ([], 6),
    ],
)
def test_splunk_names_the_event_it_cannot_take(sink, second, code):
    sink.clear()
    body = json.dumps(wrapped()).encode() + json.dumps(second).encode()
    status, answer = to_splunk(sink, body)
    assert (status, answer["code"], answer["invalid-event-number"]) == (400, code, 1)
    assert sink.splunk_events == []


def test_splunk_says_where_there_is_no_data_or_no_json(sink):
    assert to_splunk(sink, b" ")[1] == {"text": "No data", "code": 5}
    assert to_splunk(sink, b"{")[1]["code"] == 6
    assert to_splunk(sink, wrapped(), "/services/collector/ack")[1]["code"] == 14


def test_splunk_acknowledges_once_per_channel():
    channel = {"X-Splunk-Request-Channel": "11111111-2222-3333-4444-555555555555"}
    with LocalSink(acknowledge=True) as sink:
        assert to_splunk(sink, wrapped())[1]["code"] == 10
        assert to_splunk(sink, wrapped(), **{"X-Splunk-Request-Channel": "x"})[1]["code"] == 11
        assert to_splunk(sink, wrapped(), **channel)[1]["ackId"] == 0
        assert to_splunk(sink, wrapped(), **channel)[1]["ackId"] == 1
        ask = {"acks": [0, 1, 7]}
        first = to_splunk(sink, ask, "/services/collector/ack", **channel)[1]
        assert first == {"acks": {"0": True, "1": True, "7": False}}
        again = to_splunk(sink, ask, "/services/collector/ack", **channel)[1]
        assert again == {"acks": {"0": False, "1": False, "7": False}}


def test_events_are_kept_once_and_repetitions_counted(sink):
    sink.clear()
    before = sink.duplicates
    for _ in range(3):
        to_splunk(sink, wrapped())
    assert len(sink.splunk_events) == 1
    assert sink.duplicates - before == 2
    assert [r.answer.status for r in sink.requests] == [200] * 3


def test_the_sink_listens_on_loopback_only():
    with pytest.raises(ValueError, match="host: expected one of 127"):
        LocalSink("0.0.0.0")


def test_the_sink_listens_on_ipv6_too():
    try:
        running = LocalSink("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with running as sink:
        assert sink.url.startswith("http://[::1]:")
        assert to_splunk(sink, wrapped())[0] == 200
        assert splunk(sink).send([FIELDS]).status == "accepted"


def test_other_paths_are_not_found(sink):
    assert post(f"{sink.url}/anything", b"{}", {})[0] == 404
