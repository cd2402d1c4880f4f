"""Azure's own client against a strict local endpoint: what arrives, and what failures become."""

import builtins
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from ingestion_endpoint import RULE, STREAM, TOKEN, Endpoint, Scripted, running_endpoint

from modelward.defense.runtime import AISDefenseModel
from modelward.siem import Delivery, Event, SentinelLogs, raw_message
from modelward.siem.sentinel_logs import uploader


class StaticCredential:
    """A ``TokenCredential`` whose token never changes."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        self.scopes += scopes
        return AccessToken(self.token, 4_102_444_800)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with running_endpoint(tmp_path_factory.mktemp("tls")) as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(served: Endpoint) -> Endpoint:
    for had in (served.rows, served.answers, served.complaints, served.script):
        had.clear()
    return served


def sink(endpoint: Endpoint, token: str = TOKEN, **options: Any) -> SentinelLogs:
    given = {"dcr_immutable_id": RULE, "ca_bundle": endpoint.ca_bundle, **options}
    return SentinelLogs(endpoint.url, credential=StaticCredential(token), **given)


def event(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "raw_message": raw_message("image_classification", "extraction"),
        "service_name": "image_classification_extraction_defense_engine",
        "asset_id": "asset-1",
        "source_name": "192.0.2.7",
        "probability": 0.913,
        "suspicious_level": "high suspicious attack",
        "computer": "gateway-1",
        "event_id": "evt-1",
        "model_id": "3f0b2a4c-8d1e-4f6a-9b7c-5e2d1c0a9f8e",
        "job_id": "job-1",
        "defense_version": "1.0",
        "timestamp": "2026-11-25T10:00:00.125Z",
    }
    return Event(**{**given, **changes}).fields()


def test_an_event_arrives_field_by_field(endpoint: Endpoint) -> None:
    outcome = sink(endpoint).send([event()])
    assert outcome.status == "accepted", endpoint.complaints
    assert endpoint.answers == [204]
    assert endpoint.rows == [
        {
            "TimeGenerated": "2026-11-25T10:00:00.125Z",
            "RawMessage_s": "Image Classification AI Model Extraction Attack Identified",
            "service_name_s": "image_classification_extraction_defense_engine",
            "asset_id_s": "asset-1",
            "source_name_s": "192.0.2.7",
            "probability_d": 0.91,
            "attack_name_s": "model_attack",
            "timestamp_t": "2026-11-25T10:00:00.125Z",
            "SuspiciousLevel": "high suspicious attack",
            "Computer": "gateway-1",
            "event_id_s": "evt-1",
            "model_id_s": "3f0b2a4c-8d1e-4f6a-9b7c-5e2d1c0a9f8e",
            "job_id_s": "job-1",
            "defense_version_s": "1.0",
            "rows_d": 1,
        }
    ]


def test_unicode_and_long_messages_arrive(endpoint: Endpoint) -> None:
    odd = "Überfall 模型 🛡 \ud800 end"
    long = "é" * 20_000
    outcome = sink(endpoint).send([event(raw_message=odd), event(raw_message=long)])
    assert outcome.status == "accepted", endpoint.complaints
    first, second = (row["RawMessage_s"] for row in endpoint.rows)
    assert first == "Überfall 模型 🛡 ? end"
    assert len(second.encode()) <= 32_000
    assert second.endswith("bytes cut]")


def test_a_batch_beyond_one_mebibyte_goes_in_parts(endpoint: Endpoint) -> None:
    batch = [event(raw_message="x" * 30_000, event_id=f"evt-{n}") for n in range(60)]
    assert sink(endpoint).send(batch).status == "accepted", endpoint.complaints
    assert len(endpoint.answers) > 1
    assert [row["event_id_s"] for row in endpoint.rows] == [e["event_id"] for e in batch]


@pytest.mark.parametrize(
    ("answer", "status", "wait", "words"),
    [
        (Scripted(401, "InvalidToken"), "retry", 60.0, "Monitoring Metrics Publisher"),
        (Scripted(403, "OperationFailed"), "retry", 60.0, "Monitoring Metrics Publisher"),
        (Scripted(404, "NotFound"), "retry", 60.0, "dcr_immutable_id"),
        (Scripted(400, "InvalidStream"), "retry", 60.0, "stream_name"),
        (Scripted(400, "InvalidPayload", message="bad row"), "rejected", None, "bad row"),
        (
            Scripted(400, "InvalidPayload", message="rows_d does not fit the stream of the rule"),
            "rejected",
            None,
            "rows_d",
        ),
        (Scripted(413, "ContentLengthLimitExceeded"), "rejected", None, "413"),
        (Scripted(429, "TooMany", {"Retry-After": "17"}), "retry", 17.0, "429"),
        (Scripted(429, "TooMany"), "retry", None, "429"),
        (Scripted(503, "Busy"), "retry", None, "503"),
        (Scripted(500, "Broken"), "retry", None, "500"),
        (Scripted(403, "No", {"Retry-After": "300"}), "retry", 300.0, "403"),
        (
            Scripted(
                503,
                "Busy",
                {
                    "Date": "Wed, 25 Nov 2026 10:00:00 GMT",
                    "Retry-After": "Wed, 25 Nov 2026 10:00:40 GMT",
                },
            ),
            "retry",
            40.0,
            "503",
        ),
        (Scripted(200, "Odd"), "retry", 60.0, "expected 204"),
    ],
    ids=lambda value: f"{value.status}-{value.code}" if isinstance(value, Scripted) else None,
)
def test_an_answer_becomes_an_outcome(
    endpoint: Endpoint, answer: Scripted, status: str, wait: float | None, words: str
) -> None:
    endpoint.script.append(answer)
    outcome = sink(endpoint).send([event()])
    assert (outcome.status, outcome.retry_after) == (status, wait)
    assert words in outcome.reason
    assert TOKEN not in outcome.reason
    assert endpoint.answers == [answer.status], "the spool retries, the client must not"


def test_a_wrong_token_is_refused_for_real(endpoint: Endpoint) -> None:
    outcome = sink(endpoint, token="stale").send([event()])
    assert (outcome.status, endpoint.answers) == ("retry", [401])
    assert "check the credential" in outcome.reason
    assert "stale" not in outcome.reason
    assert endpoint.rows == []


def test_a_wrong_rule_and_a_wrong_stream_keep_the_events(endpoint: Endpoint) -> None:
    for options in ({"dcr_immutable_id": "dcr-0"}, {"stream_name": "Custom-Other_CL"}):
        assert sink(endpoint, **options).send([event()]).status == "retry"
    assert endpoint.answers == [404, 400]


def test_a_redirect_is_not_followed(endpoint: Endpoint) -> None:
    target = f"{endpoint.url}/dataCollectionRules/{RULE}/streams/{STREAM}?api-version=2023-01-01"
    endpoint.script.append(Scripted(307, "Moved", {"Location": target}))
    assert sink(endpoint).send([event()]).status == "retry"
    assert endpoint.answers == [307]


def test_an_unknown_authority_is_refused_and_named(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    outcome = sink(endpoint, ca_bundle=None).send([event()])
    assert outcome.status == "retry"
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason
    assert endpoint.answers == []


def test_a_closed_port_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{probe.getsockname()[1]}"
        outcome = SentinelLogs(url, RULE, credential=StaticCredential()).send([event()])
    assert outcome.status == "retry"
    assert "ConnectionRefusedError" in outcome.reason


def test_a_silent_server_holds_the_thread_no_longer_than_a_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelward.siem.sentinel_logs.TIMEOUT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        outcome = SentinelLogs(url, RULE, credential=StaticCredential()).send([event()])
    assert outcome.status == "retry"
    assert "timed out" in outcome.reason.lower() or "Timeout" in outcome.reason


def test_no_credential_at_hand_keeps_the_events(endpoint: Endpoint) -> None:
    class Locked:
        def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
            raise ClientAuthenticationError("secret detail")

    made = SentinelLogs(endpoint.url, RULE, credential=Locked(), ca_bundle=endpoint.ca_bundle)
    outcome = made.send([event()])
    assert (outcome.status, outcome.retry_after) == ("retry", 60.0)
    assert "secret detail" not in outcome.reason


def test_a_token_that_is_no_header_stays_out_of_the_reason(endpoint: Endpoint) -> None:
    outcome = sink(endpoint, token="hidden\nvalue").send([event()])
    assert outcome.status == "retry"
    assert "hidden" not in outcome.reason


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("x.westeurope-1.ingest.monitor.azure.com", "https://monitor.azure.com/.default"),
        ("x.usgovvirginia-1.ingest.monitor.azure.us", "https://monitor.azure.us/.default"),
        ("x.chinanorth3-1.ingest.monitor.azure.cn", "https://monitor.azure.cn/.default"),
    ],
)
def test_the_token_is_asked_for_the_cloud_of_the_endpoint(host: str, scope: str) -> None:
    upload = uploader(f"https://{host}", StaticCredential(), None)
    assert upload.__self__._config.credential_scopes == [scope]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"endpoint": "http://127.0.0.1:1"}, "endpoint: expected https"),
        ({"endpoint": "http://elsewhere.example"}, "endpoint: expected https"),
        ({"endpoint": "no address"}, "endpoint: expected an address"),
        ({"dcr_immutable_id": ""}, "dcr_immutable_id: expected"),
        (
            {"dcr_immutable_id": "/subscriptions/1/dataCollectionRules/x"},
            "dcr_immutable_id: .* not its name or resource id",
        ),
        ({"stream_name": "a/b"}, "stream_name: expected"),
        ({"stream_name": ""}, "stream_name: expected"),
        ({"ca_bundle": "/nowhere/ca.pem"}, "ca_bundle: expected a readable PEM"),
    ],
)
def test_malformed_arguments_are_named(given: dict[str, str], match: str) -> None:
    right = {"endpoint": "https://x.ingest.monitor.azure.com", "dcr_immutable_id": RULE}
    with pytest.raises(ValueError, match=match):
        SentinelLogs(**{**right, **given}, credential=StaticCredential())  # type: ignore[arg-type]


def test_without_the_azure_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("azure"):
            raise ImportError(f"No module named {name}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "modelward\[sentinel\]"'):
        SentinelLogs("https://x.ingest.monitor.azure.com", RULE)


def test_a_shown_sink_shows_no_secret(endpoint: Endpoint) -> None:
    assert repr(sink(endpoint)) == f"SentinelLogs('{RULE}', '{STREAM}')"


def flagging(images: np.ndarray) -> np.ndarray:
    """A model that is 91 % sure of an attack on every image."""
    return np.tile(np.array([[0.09, 0.91]], dtype=np.float32), (len(images), 1))


def test_a_defence_delivers_through_the_spool(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script += [Scripted(503, "Busy", {"Retry-After": "0"})]
    with AISDefenseModel(
        flagging, asset_id="asset-1", sink=sink(endpoint), spool_path=tmp_path / "spool.db"
    ) as defense:
        labels, _ = defense.predict(np.zeros((3, 8, 8, 1)), source=["a", "b", "c"])
        assert labels.tolist() == ["attack"] * 3
        assert defense.flush(20)
        stats = defense.stats()["sinks"]["sentinel-logs"]
    assert endpoint.answers[0] == 503
    assert (stats["delivered"], stats["pending"], stats["dead"]) == (3, 0, 0)
    assert sorted(row["source_name_s"] for row in endpoint.rows) == ["a", "b", "c"]
    assert {row["probability_d"] for row in endpoint.rows} == {0.91}


def test_a_malformed_event_is_put_aside_and_the_others_arrive(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    good = [event(event_id=f"evt-{n}") for n in range(7)]
    bad = {**event(event_id="evt-bad"), "timestamp": "yesterday"}
    with Delivery(
        [sink(endpoint)], tmp_path / "spool.db", start=False, rng=random.Random(1)
    ) as delivery:
        delivery.submit_rows({}, [*good[:4], bad, *good[4:]])
        assert delivery.flush(20)
        (letter,) = delivery.dead_letters()
    assert letter["event_id"] == "evt-bad"
    assert "expected UTC" in letter["reason"]
    assert sorted(row["event_id_s"] for row in endpoint.rows) == [e["event_id"] for e in good]


def test_refused_access_keeps_events_until_it_is_granted(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    now = [1000.0]
    endpoint.script.append(Scripted(403, "OperationFailed"))
    delivery = Delivery([sink(endpoint)], tmp_path / "spool.db", start=False, clock=lambda: now[0])
    delivery.submit_rows({}, [event()])
    delivery.pump()
    now[0] += 59
    delivery.pump()
    assert endpoint.answers == [403], "a refused credential is not tried again at once"
    assert (
        "Monitoring Metrics Publisher" in delivery.stats()["sinks"]["sentinel-logs"]["last_error"]
    )
    now[0] += 3
    delivery.pump()
    assert endpoint.answers == [403, 204]
    assert delivery.stats()["sinks"]["sentinel-logs"]["pending"] == 0
    delivery.close()
