"""`modelward serve` tells a SIEM how jobs end and whom it refuses, and nobody waits for that."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_service import BASE, make_archives, run_live
from typer.testing import CliRunner

from modelward.api import create_app
from modelward.cli import app as command
from modelward.jobs import AssessmentService
from modelward.jobs.processes import _environment
from modelward.settings import Settings
from modelward.siem_sink import LocalSink


def settings_for(sink: LocalSink) -> dict[str, Any]:
    return {
        "siem_azure_log_customer_id": sink.workspace_id,
        "siem_azure_log_shared_key": sink.shared_key,
        "siem_azure_log_endpoint": sink.url,
        "siem_splunk_url": sink.url,
        "siem_splunk_authorization": sink.token,
    }


@pytest.fixture
def sink() -> Iterator[LocalSink]:
    with LocalSink() as running:
        yield running


def named(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["attack_name"] == name]


def test_jobs_and_refusals_of_a_running_service(tmp_path: Path, sink: LocalSink) -> None:
    sink.fail(times=-1, status=503)  # the SIEM is down while the service works
    data = tmp_path / "data"
    # A score of 0.73 is medium.
    with run_live(data, siem_min_severity="medium", **settings_for(sink)) as live:
        done = live.start_job()
        refused = live.start_job(behaviour="refuse")
        killed = live.start_job(behaviour="kill")
        for job in (done, refused, killed):
            live.wait(job["job_id"])
        assert live.status(done["job_id"])["JobState"] == "succeeded"
        url = live.register()["urls"]["data_upload_url"]
        for _ in range(40):
            assert live.http.put(url, content=b"no archive").status_code == 400
            assert live.get("/get_aws_api_key", headers={"Org-Id": "mwo-x"}).status_code == 401
        assert sink.events == []
        sink.clear_faults()
    told = sink.splunk_events
    (finished,) = named(told, "assessment_finished")
    assert finished["RawMessage"] == (
        "Modelward assessment finished (image classification extraction): "
        "vulnerability score 0.73, severity medium; a defence is ready"
    )
    assert (finished["job_id"], finished["model_id"]) == (done["job_id"], done["model_id"])
    assert (finished["asset_id"], finished["rows"]) == (done["model_id"], 1)
    assert (finished["probability"], finished["SuspiciousLevel"]) == (0.7, "")
    assert finished["service_name"] == "modelward_assessment_service"

    failed = {event["job_id"]: event for event in named(told, "assessment_failed")}
    assert set(failed) == {refused["job_id"], killed["job_id"]}
    assert "image 3.png: expected a picture" in failed[refused["job_id"]]["RawMessage"]
    assert "SIGKILL" in failed[killed["job_id"]]["RawMessage"]

    for name, count in (("upload_rejected", 40), ("key_exchange_refused", 40)):
        events = named(told, name)
        assert sum(event["rows"] for event in events) == count
        assert len(events) < 5  # not one for each
        assert {event["source_name"] for event in events} == {"127.0.0.1"}
    assert "not an acceptable archive" in named(told, "upload_rejected")[0]["RawMessage"]
    assert url.split("/")[-2] == named(told, "upload_rejected")[0]["model_id"]
    # The Data Collector would make another column of a bare GUID.
    other = {event["event_id"]: event for event in sink.sentinel_events}
    assert set(other) == {event["event_id"] for event in told}
    assert other[finished["event_id"]]["asset_id"] == f"id-{done['model_id']}"
    log = live.log.read_text()
    assert "reporting jobs of severity medium and above" in log
    assert sink.shared_key not in log and sink.token not in log


def test_a_hanging_siem_holds_up_nobody_and_a_killed_server_loses_nothing(
    tmp_path: Path, sink: LocalSink
) -> None:
    data = tmp_path / "data"
    sink.fail(times=-1, hang=60.0)
    with run_live(data, **settings_for(sink)) as live:
        live.http.timeout = 8.0  # shorter than a sender waits for an answer
        for _ in range(20):
            assert live.get("/get_aws_api_key", headers={"Org-Id": "mwo-x"}).status_code == 401
        job = live.start_job(behaviour="refuse")["job_id"]
        assert live.wait(job)["JobState"] == "failed"
        live.process.send_signal(signal.SIGKILL)
        live.process.wait()
    assert sink.events == []
    sink.clear_faults()
    with run_live(data, **settings_for(sink)):
        assert sink.wait(2, "splunk", 20)
    refused, failed = sorted(sink.splunk_events, key=lambda event: str(event["timestamp"]))
    assert (refused["attack_name"], refused["rows"]) == ("key_exchange_refused", 1)
    assert (failed["attack_name"], failed["job_id"]) == ("assessment_failed", job)


def ask(settings: Settings, calls: Callable[[AssessmentService], list[httpx.Request]]) -> list[int]:
    """Statuses of calls to a service in this process, made from another address."""

    async def work() -> list[int]:
        app = create_app(settings)
        transport = httpx.ASGITransport(app, client=("203.0.113.5", 1))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport) as client,
        ):
            requests = calls(app.state.service)
            return [(await client.send(request)).status_code for request in requests]

    return asyncio.run(work())


def exchange(times: int) -> Callable[[AssessmentService], list[httpx.Request]]:
    """Ask for keys, through a proxy's prefix."""

    def calls(service: AssessmentService) -> list[httpx.Request]:
        headers = {"Org-Id": service.tenants.create("a").organisation_id}
        url = f"http://service/prod{BASE}/get_aws_api_key"
        return [httpx.Request("GET", url, headers=headers) for _ in range(times)]

    return calls


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"key_exchange": False}, 403, "the exchange is switched off"),
        (
            {"key_exchange_per_second": 0.001, "request_burst": 1},
            429,
            "more often than allowed",
        ),
    ],
)
def test_refused_key_exchanges_name_the_reason(
    tmp_path: Path, sink: LocalSink, options: dict[str, Any], status: int, words: str
) -> None:
    settings = Settings(data=tmp_path, **options, **settings_for(sink))
    statuses = ask(settings, exchange(4))
    assert statuses.count(status) >= 3
    first, rest = sink.splunk_events
    assert first["RawMessage"] == f"Modelward key exchange refused: {words}"
    assert first["source_name"] == "203.0.113.5"
    assert first["rows"] + rest["rows"] == statuses.count(status)


def test_refused_uploads_name_reason_and_model(tmp_path: Path, sink: LocalSink) -> None:
    models = []

    def calls(service: AssessmentService) -> list[httpx.Request]:
        number = service.tenants.organisation(service.tenants.create("a").organisation_id)
        made = service.register(number, {"task_type": "IC", "analysis_type": "MEA"})
        models.append(made["model_id"])
        url = made["urls"]["data_upload_url"]
        nowhere = url.replace(made["model_id"], "Attack%20Identified")
        return [
            httpx.Request("PUT", url, content=b"x" * 2000),
            httpx.Request("PUT", url, content=b"no archive"),
            httpx.Request("PUT", url[:-5], content=b"x"),
            httpx.Request("PUT", nowhere, content=b"x"),
            httpx.Request("PUT", url, content=make_archives()["model"]),
            httpx.Request("GET", f"{url}&what=else"),
        ]

    settings = Settings(data=tmp_path, upload_max_bytes=1000, **settings_for(sink))
    assert ask(settings, calls) == [413, 400, 403, 403, 200, 405]
    told = [(event["RawMessage"], event["model_id"]) for event in sink.splunk_events]
    starts = ("larger than allowed (", "not an acceptable archive (")
    for (text, model), start in zip(told, starts, strict=False):
        assert text.startswith(f"Modelward upload rejected: {start}")
        assert model == models[0]
    link = "Modelward upload rejected: a link that does not open this"
    # The second of them is not about a model that anybody knows.
    assert [text.partition(" (")[0] for text, _ in told[2:]] == [link, link]
    assert [model for _, model in told[2:]] == [models[0], ""]


def test_without_a_siem_nothing_is_kept(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, key_exchange=False)
    assert ask(settings, exchange(2)) == [403, 403]
    assert [path.name for path in tmp_path.iterdir() if "siem" in path.name] == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"SPLUNK_URL": "https://s.example"}, "siem_splunk_authorization: expected together"),
        (
            {"AZURE_LOG_CUSTOMER_ID": "w", "AZURE_LOG_SHARED_KEY": "hush*"},
            "siem_azure_log_shared_key: expected",
        ),
        ({"MIN_SEVERITY": "severe"}, "siem_min_severity"),
    ],
)
def test_wrong_settings_stop_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], words: str
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWARD_SIEM_{name}", value)
    done = CliRunner().invoke(command, ["serve", "--port", "0", "--data", str(tmp_path / "data")])
    assert done.exit_code == 2
    assert words in done.stderr
    assert "hush" not in done.stderr + done.stdout


def test_secrets_are_masked_among_the_shown_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWARD_SIEM_SPLUNK_URL", "https://s.example")
    monkeypatch.setenv("MODELWARD_SIEM_SPLUNK_AUTHORIZATION", "hushhush")
    done = CliRunner().invoke(command, ["serve", "--show-settings"])
    assert done.exit_code == 0
    assert "siem_splunk_url = https://s.example" in done.stdout
    assert "siem_splunk_authorization = ***" in done.stdout
    assert "hushhush" not in done.stdout


def test_job_processes_do_not_get_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWARD_SIEM_AZURE_LOG_SHARED_KEY", "hush")
    given = _environment()
    assert not [name for name in given if "SIEM" in name]
    assert given["PATH"] == os.environ["PATH"]
