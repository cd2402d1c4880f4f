"""What the service tells a SIEM: which ends of jobs, which refusals, in which words, how often."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_jobs_store import World

from modelward.domain import InvalidInputError, Severity
from modelward.jobs.alert_sinks import sinks_of
from modelward.jobs.alerts import KEY_REFUSED, UPLOAD_REJECTED, Alerts, harmless
from modelward.jobs.gates import DECLINED
from modelward.settings import Settings, load_settings, show_settings
from modelward.siem import Event, Outcome

KEY = "c2VjcmV0LWtleS1vZi10aGUtd29ya3NwYWNl"
RULES = [
    f"{task} AI Model {attack} Attack Identified"
    for task in ("Image Classification", "Tabular Classification", "Natural Language Processing")
    for attack in ("Extraction", "Evasion")
]


class Recorder:
    """A SIEM that takes everything, or nothing."""

    name = "recorder"

    def __init__(self) -> None:
        self.up = True
        self.events: list[dict[str, Any]] = []

    def send(self, events: Any) -> Outcome:
        if not self.up:
            return Outcome("retry", "down")
        self.events += events
        return Outcome("accepted")


class Watched(World):
    """Jobs and their observer; both by the same clock, looked at by hand."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.recorder = Recorder()
        self.now = 1_800_000_000.0
        self.begin()

    def begin(self, **settings: Any) -> None:
        self.alerts = Alerts(
            Settings(data=self.folder, public_url="https://m.example", **settings),
            clock=lambda: self.now,
            steady=lambda: self.now,
            sinks=[self.recorder],
        )
        self.alerts.start()

    def end(self, name: str, *, score: float | None = None, failure: str = "") -> None:
        self.add(name)
        while (job := self.jobs.claim()) is not None and job.id != name:
            pass
        self.now += 5
        if failure:
            assert self.jobs.fail(name, failure)
            return
        if score is not None:
            self.jobs.report(name, score=score)
        self.jobs.succeed(name, "Analysis completed")

    def tell(self) -> None:
        """What the dispatcher does about jobs that have ended, and the look of a second."""
        for job in self.jobs.unannounced():
            self.alerts.ended(job)
            self.jobs.announced(job.id)
        self.alerts.look()

    def told(self) -> list[dict[str, Any]]:
        """Everything that has arrived, after a look."""
        self.tell()
        delivery = self.alerts._delivery
        assert delivery is not None and delivery.flush(10)
        return self.recorder.events


@pytest.fixture
def watched(tmp_path: Path) -> Any:
    made = Watched(tmp_path)
    yield made
    made.alerts.stop()


def test_a_finished_job_field_by_field(watched: Watched) -> None:
    watched.end("job-1", score=0.9312)
    (event,) = watched.told()
    job = watched.jobs.get_unscoped("job-1")
    address, host = event.pop("source_name"), event.pop("Computer")
    assert re.fullmatch(r"[0-9.]+", address) and host
    assert event.pop("defense_version")
    assert event == {
        "RawMessage": "Modelward assessment finished (image classification extraction): "
        "vulnerability score 0.93, severity high; a defence is ready",
        "service_name": "modelward_assessment_service",
        "asset_id": watched.model,
        "probability": 0.85,
        "attack_name": "assessment_finished",
        "timestamp": "2027-01-15T08:00:06.000Z",
        "SuspiciousLevel": "",
        "event_id": "evt-job-1-succeeded",
        "model_id": watched.model,
        "job_id": "job-1",
        "rows": 1,
    }
    assert job.finished == 1_800_000_006.0
    assert set(event) | {"source_name", "Computer", "defense_version"} == {
        *Event(raw_message="", service_name="", asset_id="", source_name="", probability=0).fields()
    }


@pytest.mark.parametrize(
    ("lowest", "expected"),
    [
        ("low", ["low", "medium", "high", "critical"]),
        ("medium", ["medium", "high", "critical"]),
        ("high", ["high", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_severity_decides_which_jobs_are_told(
    tmp_path: Path, lowest: str, expected: list[str]
) -> None:
    watched = Watched(tmp_path)
    watched.alerts.stop()
    watched.begin(siem_min_severity=lowest)
    for name, score in (("a", 0.49), ("b", 0.5), ("c", 0.8), ("d", 0.95), ("none", None)):
        watched.end(name, score=score)
    told = watched.told()
    watched.alerts.stop()
    found = [re.search(r"severity (\w+)", event["RawMessage"]) for event in told]
    assert [match[1] for match in found if match] == expected
    # The bands of the published parser: High from 0.85, Medium from 0.70 to 0.84, Low below.
    bands = {"low": (0, 0.69), "medium": (0.7, 0.84), "high": (0.85, 1), "critical": (0.85, 1)}
    for event, level in zip(told, expected, strict=True):
        assert bands[level][0] <= event["probability"] <= bands[level][1]


def test_a_job_without_defence_says_so(watched: Watched) -> None:
    watched.add("job-1")
    watched.jobs.claim()
    watched.jobs.report("job-1", score=0.99)
    watched.jobs.succeed("job-1", DECLINED)
    assert watched.told()[0]["RawMessage"].endswith("severity critical; no defence was called for")


def test_every_failure_is_told_once_whoever_noticed_it(watched: Watched) -> None:
    watched.end("job-1", failure="The job process was ended by SIGKILL")
    watched.end("job-2", failure="image 3.png:\nexpected a picture")
    assert [event["event_id"] for event in watched.told()] == [
        "evt-job-1-failed",
        "evt-job-2-failed",
    ]
    watched.now += 10
    assert len(watched.told()) == 2
    first, second = watched.told()
    assert first["RawMessage"].endswith("extraction): The job process was ended by SIGKILL")
    assert "image 3.png: expected a picture" in second["RawMessage"]
    assert (first["job_id"], first["attack_name"], first["probability"]) == (
        "job-1",
        "assessment_failed",
        0.0,
    )


def test_what_a_dead_siem_missed_waits_in_the_data_folder(watched: Watched) -> None:
    watched.recorder.up = False
    watched.end("job-1", score=0.99)
    watched.tell()
    watched.alerts.stop()
    assert watched.recorder.events == []
    watched.recorder.up = True
    watched.begin()
    assert [event["job_id"] for event in watched.told()] == ["job-1"]
    assert (watched.folder / "siem-spool.db").stat().st_mode & 0o077 == 0


def test_a_flood_of_refusals_is_one_event_a_minute(watched: Watched) -> None:
    for number in range(500):
        watched.alerts.refused(
            KEY_REFUSED, source=f"198.51.100.{7 if number % 2 else number % 250}", detail="unknown"
        )
    watched.alerts.refused(UPLOAD_REJECTED, source="203.0.113.9", detail="large", model_id="m")
    first, upload = watched.told()
    assert (first["rows"], first["source_name"]) == (1, "198.51.100.0")
    assert first["RawMessage"] == "Modelward key exchange refused: unknown"
    assert first["asset_id"] == "https://m.example"
    assert (upload["asset_id"], upload["model_id"]) == ("m", "m")
    assert (upload["attack_name"], upload["probability"]) == (UPLOAD_REJECTED, 0.0)

    watched.now += 59
    assert len(watched.told()) == 2
    watched.now += 1
    summary = watched.told()[2]
    assert summary["rows"] == 499
    assert summary["source_name"] == "198.51.100.7"  # refused most often
    assert summary["RawMessage"].startswith(
        "Modelward key exchange refused: unknown, 499 times from 12"
    )
    watched.alerts.refused(KEY_REFUSED, source="192.0.2.1", detail="unknown")
    assert len(watched.told()) == 3  # the next minute has begun
    watched.now += 60
    assert watched.told()[3]["rows"] == 1
    # After a quiet minute the next one is told at once.
    watched.now += 60
    watched.told()
    watched.alerts.refused(KEY_REFUSED, source="192.0.2.1", detail="unknown")
    assert len(watched.told()) == 5


def test_counted_refusals_are_told_at_the_end(watched: Watched) -> None:
    for _ in range(3):
        watched.alerts.refused(KEY_REFUSED, source=None, detail="unknown")
    watched.alerts.stop()
    assert [event["rows"] for event in watched.recorder.events] == [1, 2]


def test_trouble_with_reporting_reaches_nobody(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.alerts.refused("no such kind", source="192.0.2.1", detail="unknown")
    assert "an event could not be made" in caplog.text


def test_no_words_of_a_caller_look_like_an_attack(watched: Watched) -> None:
    for number, rule in enumerate(RULES):
        watched.end(f"{number}-a", failure=f"{rule}.png: expected a picture")
        watched.end(f"{number}-b", failure=f"{rule.lower()} " * 40)
        watched.end(f"{number}-c", failure=rule.replace(" ", "\n\x00 "))
        watched.alerts.refused(
            UPLOAD_REJECTED, source="192.0.2.1", detail=f"archive {number}", reason=rule
        )
    told = watched.told()
    assert len(told) == 4 * len(RULES)
    for event in told:
        assert not any(rule.lower() in event["RawMessage"].lower() for rule in RULES)
        assert event["RawMessage"].isprintable()
        assert len(event["RawMessage"]) <= 500
        assert event["SuspiciousLevel"] == ""
        assert "classification" not in event["service_name"]


def test_secrets_in_reasons_are_masked() -> None:
    text = harmless("token=abcdefgh and mwo-0123456789abcdef")
    assert text == "token=*** and mwo-***"


HALVES = {
    "siem_azure_log_customer_id": ("w", "siem_azure_log_shared_key"),
    "siem_azure_log_shared_key": (KEY, "siem_azure_log_customer_id"),
    "siem_azure_log_endpoint": ("https://e.example", "siem_azure_log_customer_id"),
    "siem_sentinel_endpoint": ("https://e.example", "siem_sentinel_dcr"),
    "siem_sentinel_dcr": ("dcr-1", "siem_sentinel_endpoint"),
    "siem_splunk_url": ("https://s.example", "siem_splunk_authorization"),
    "siem_splunk_authorization": ("hushhush", "siem_splunk_url"),
}


@pytest.mark.parametrize("given", HALVES)
def test_half_a_pair_names_what_is_missing(given: str) -> None:
    value, missing = HALVES[given]
    with pytest.raises(InvalidInputError, match=f"^{missing}: expected together with {given}"):
        sinks_of(Settings(**{given: value}))


AZURE = {"siem_azure_log_customer_id": "w", "siem_azure_log_shared_key": KEY}
SPLUNK = {"siem_splunk_url": "https://s.example:8088", "siem_splunk_authorization": "hushhush"}


@pytest.mark.parametrize(
    ("values", "blamed"),
    [
        (AZURE | {"siem_azure_log_customer_id": "a b"}, "siem_azure_log_customer_id"),
        (AZURE | {"siem_azure_log_shared_key": "hush*hush"}, "siem_azure_log_shared_key"),
        (AZURE | {"siem_azure_log_endpoint": "http://e.example"}, "siem_azure_log_endpoint"),
        (SPLUNK | {"siem_splunk_url": "s.example"}, "siem_splunk_url"),
        (SPLUNK | {"siem_splunk_url": "http://s.example"}, "siem_splunk_url"),
        (SPLUNK | {"siem_splunk_authorization": "hush hush hush"}, "siem_splunk_authorization"),
        (SPLUNK | {"siem_ca_bundle": "/no/such/file"}, "siem_ca_bundle"),
        (
            {"siem_sentinel_endpoint": "http://e.example", "siem_sentinel_dcr": "d"},
            "siem_sentinel_endpoint",
        ),
        (
            {
                "siem_sentinel_endpoint": "https://e.example",
                "siem_sentinel_dcr": "dcr-0123",
                "siem_sentinel_stream": " ",
            },
            "siem_sentinel_stream",
        ),
        (
            {"siem_sentinel_endpoint": "https://e.example", "siem_sentinel_dcr": "d"},
            "siem_sentinel_dcr",
        ),
    ],
)
def test_malformed_values_name_the_setting(values: dict[str, Any], blamed: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{blamed}: expected") as caught:
        sinks_of(Settings(**values))
    assert "hush" not in str(caught.value)
    assert "allow_http=True" not in str(caught.value)


def test_all_three_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinel = {"siem_sentinel_endpoint": "https://e.example", "siem_sentinel_dcr": "dcr-1"}
    made = sinks_of(Settings(**AZURE, **SPLUNK, **sentinel))
    assert [sink.name for sink in made] == ["sentinel", "sentinel-logs", "splunk"]
    assert sinks_of(Settings()) == []
    assert sinks_of(Settings(siem_splunk_url="", siem_splunk_authorization=" ")) == []
    # The variables of the artifact are not the service's.
    monkeypatch.setenv("MODELWARD_SPLUNK_URL", "https://s.example")
    monkeypatch.setenv("MODELWARD_SPLUNK_AUTHORIZATION", "t")
    assert sinks_of(load_settings()) == []


def test_plain_http_elsewhere_needs_leave() -> None:
    plain = SPLUNK | {"siem_splunk_url": "http://s.example:8088"}
    with pytest.raises(InvalidInputError, match="siem_allow_http = true"):
        sinks_of(Settings(**plain))
    assert len(sinks_of(Settings(**plain, siem_allow_http=True))) == 1


def test_secrets_are_shown_nowhere(tmp_path: Path) -> None:
    settings = Settings(**AZURE, **SPLUNK, data=tmp_path)
    for text in (show_settings(settings), repr(settings), str(settings), repr(sinks_of(settings))):
        assert KEY not in text and "hushhush" not in text
    assert "siem_min_severity = high" in show_settings(settings)
    # Nor where the file that holds them is wrong.
    path = tmp_path / "settings.toml"
    for line in (
        'siem_splunk_token = "hushhush"',
        'siem_splunk_authorization = ["hushhush"]',
        'siem_splunk_authorization = "hushhush"\nport = "x"',
    ):
        path.write_text(line)
        with pytest.raises(InvalidInputError, match=line.partition(" ")[0] + "|port") as caught:
            load_settings(path)
        assert "hushhush" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_severities_are_checked() -> None:
    with pytest.raises(InvalidInputError, match=r"siem_min_severity.*'severe'"):
        load_settings(siem_min_severity="severe")
    assert load_settings(siem_min_severity="low").siem_min_severity is Severity.LOW
    assert json.dumps(load_settings().siem_min_severity) == '"high"'
