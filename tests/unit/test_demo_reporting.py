"""The reference run reports its attack samples, and nothing else, to a SIEM."""

import io
import json
import os
import socket

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from modelward.cli import app
from modelward.defense import predict_source
from modelward.demo import (
    DemoSettings,
    SiemTarget,
    Split,
    judge_detector,
    load_defense,
    predict_samples,
    report_deliveries,
)
from modelward.demo.pipeline import _reporting
from modelward.domain import InvalidParameterError
from modelward.siem import CREDENTIALS
from modelward.siem_sink import LocalSink

FACTS = {
    "model_id": "4f7c1c1e-0f4e-4d3c-9b0e-6f6f1a2b3c4d",
    "job_id": "job-1",
    "task_type": "image_classification",
    "analysis_type": "extraction",
}


class Detector:
    """Bright images are attacks."""

    input_shape = (None, 5, 4, 1)

    def predict(self, images, verbose=0):
        attack = np.where(images.mean((1, 2, 3)) > 0.5, 0.93, 0.04)
        return np.stack([1 - attack, attack], axis=1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder with a downloaded artifact, attack samples, and genuine digits."""
    for variable in CREDENTIALS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("modelward.demo.evaluation.load_model", lambda path: Detector())
    (tmp_path / "predict.py").write_text(predict_source("0.1.0", FACTS))
    samples = tmp_path / "samples"
    samples.mkdir()
    for n in range(7):
        Image.fromarray(np.full((5, 4), 250 if n else 9, np.uint8)).save(samples / f"{n}.png")
    genuine = np.full((8, 5, 4, 1), 20, np.uint8)
    genuine[:4] = 240  # false alarms
    return tmp_path, samples, Split(genuine, np.zeros(8, np.int64))


def settings_for(folder, **target):
    return DemoSettings(output=folder, siem=SiemTarget(**target))


def spoken():
    return Console(record=True, width=200, force_terminal=False, file=io.StringIO())


def last_step(run, settings, console):
    folder, samples, genuine = run
    silent = load_defense(folder)
    assert judge_detector(silent, genuine) == 0.5
    reporting = _reporting(settings, folder, console)
    _, attack = predict_samples(silent, genuine, samples, count=7, seed=1, reporting=reporting)
    return attack, report_deliveries(reporting, console)


def test_attack_samples_arrive_in_both_siems_and_false_alarms_do_not(run):
    console = spoken()
    with LocalSink() as sink:
        settings = settings_for(
            run[0],
            azure_log_customer_id=sink.workspace_id,
            azure_log_shared_key=sink.shared_key,
            azure_log_endpoint=sink.url,
            splunk_url=sink.url,
            splunk_token=f"Splunk {sink.token}",
        )
        attack, rows = last_step(run, settings, console)
        assert [verdict.label for verdict in attack].count("attack") == 6
        assert {row.siem: (row.delivered, row.pending, row.rejected) for row in rows} == {
            "sentinel": (6, 0, 0),
            "splunk": (6, 0, 0),
        }
        assert len(sink.sentinel_events) == len(sink.splunk_events) == 6
        for event in sink.splunk_events:
            assert (event["job_id"], event["probability"]) == ("job-1", 0.93)
            assert event["model_id"] == FACTS["model_id"]
    text = console.export_text()
    assert "sentinel: 6 of 6 detections delivered" in text
    assert "pending" not in text
    assert sink.token not in text and sink.shared_key not in text
    assert sink.token not in repr(settings) and sink.shared_key not in repr(settings)


def test_an_unreachable_siem_is_told_and_later_gets_the_rest(run, monkeypatch):
    monkeypatch.setattr("modelward.demo.reporting._FLUSH_SECONDS", 0.3)
    console = spoken()
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    settings = settings_for(run[0], splunk_url=address, splunk_token="hushhush")
    _, (row,) = last_step(run, settings, console)
    assert (row.siem, row.delivered, row.pending) == ("splunk", 0, 6)
    text = console.export_text()
    assert "splunk: 0 of 6 detections delivered, 6 pending (Splunk was not reached" in text
    assert str(run[0] / "siem-spool.db") in text
    assert "hushhush" not in text
    with LocalSink(port=port, token="hushhush") as sink:
        again = load_defense(run[0], **settings.siem.arguments(run[0] / "siem-spool.db"))
        assert again.flush(10)
        again.close()
        assert len(sink.splunk_events) == 6


def test_rejected_detections_are_counted(run):
    console = spoken()
    with LocalSink() as sink:
        sink.fail(times=-1, reject=lambda event: True)
        settings = settings_for(run[0], splunk_url=sink.url, splunk_token=sink.token)
        _, (row,) = last_step(run, settings, console)
    assert (row.delivered, row.pending, row.rejected) == (0, 0, 6)
    assert "6 rejected" in console.export_text()


def test_the_environment_alone_makes_nothing_report(run, monkeypatch):
    with LocalSink() as sink:
        for argument, value in {"splunk_url": sink.url, "authorization": sink.token}.items():
            monkeypatch.setenv(CREDENTIALS[argument], value)
        silent = load_defense(run[0])
        silent.predict(np.full((3, 5, 4, 1), 250, np.uint8))
        assert silent.flush(5)
        assert silent.stats() == {}
        assert sink.requests == []
        assert os.environ[CREDENTIALS["authorization"]] == sink.token
        assert _reporting(settings_for(run[0]), run[0], spoken()) is None
        assert SiemTarget.from_environment() == SiemTarget(
            splunk_url=sink.url, splunk_token=sink.token
        )
        other = SiemTarget.from_environment(splunk_token="other")
        assert (other.splunk_url, other.splunk_token) == (sink.url, "other")
    assert not (run[0] / "state").exists()


def test_an_artifact_that_cannot_report_does_not_end_the_run(run):
    (run[0] / "predict.py").write_text(
        "class AISDefenseModel:\n    def __init__(self, defense_model):\n        pass\n"
    )
    console = spoken()
    settings = settings_for(run[0], splunk_url="https://s.example", splunk_token="t")
    assert _reporting(settings, run[0], console) is None
    assert "Nothing is reported" in console.export_text()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"splunk_url": "https://s.example"}, "splunk_token: expected together with splunk_url"),
        ({"splunk_token": "t"}, "splunk_url: expected together with splunk_token"),
        ({"azure_log_customer_id": "w"}, "azure_log_shared_key: expected together"),
        (
            {"azure_log_customer_id": "w", "azure_log_shared_key": "hush*"},
            "azure_log_shared_key: expected the workspace",
        ),
        ({"azure_log_endpoint": "https://s.example"}, "azure_log_endpoint: expected together"),
        ({"splunk_url": "http://s.example", "splunk_token": "t"}, "Use https"),
        ({"splunk_url": "https://s.example", "splunk_token": "hush hush"}, "splunk_token: exp"),
    ],
)
def test_half_a_pair_and_malformed_values_are_refused_at_once(values, message):
    with pytest.raises(InvalidParameterError, match=message) as caught:
        SiemTarget(**values)
    assert "hush" not in str(caught.value)


def test_the_command_takes_options_and_variables(tmp_path, monkeypatch):
    seen = []

    def fake(settings, console):
        seen.append(settings.siem)
        raise KeyboardInterrupt

    monkeypatch.setattr("modelward.demo.run_demo", fake)
    for variable in CREDENTIALS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MODELWARD_AZURE_LOG_CUSTOMER_ID", "workspace")
    monkeypatch.setenv("MODELWARD_AZURE_LOG_SHARED_KEY", "c2VjcmV0")
    command = ["demo", "mnist", "--output", str(tmp_path / "run")]
    splunk = ["--splunk-url", "https://s.example", "--splunk-token", "hushhush"]
    done = CliRunner().invoke(app, [*command, *splunk])
    assert done.exit_code == 3
    assert seen == [
        SiemTarget(
            azure_log_customer_id="workspace",
            azure_log_shared_key="c2VjcmV0",
            splunk_url="https://s.example",
            splunk_token="hushhush",
        )
    ]
    half = CliRunner().invoke(app, [*command, "--splunk-token", "hushhush"])
    assert half.exit_code == 2
    assert "splunk_url" in half.output and "hushhush" not in half.output
    assert json.dumps(str(seen[0])).count("hushhush") == 0
