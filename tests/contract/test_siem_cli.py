"""`modelward siem sink` and `modelward siem test`, as a user calls them."""

import os
import re
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from modelward.cli import app
from modelward.siem import CREDENTIALS, Event, SplunkCollector
from modelward.siem_sink import LocalSink

# What `pip install modelward` brings, and nothing else.
BARE = """
import importlib.abc, sys
class Bare(importlib.abc.MetaPathFinder):
    missing = {"numpy", "torch", "keras", "fastapi", "sqlalchemy", "uvicorn", "mlflow", "azure",
               "PIL", "sklearn", "h5py", "alembic", "obstore", "pydantic_settings", "jinja2",
               "matplotlib", "tensorflow", "typst", "defusedxml", "streaming_form_data"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.missing:
            raise ModuleNotFoundError(f"{name} is not installed here")
sys.meta_path.insert(0, Bare())
from modelward.cli import app
app(sys.argv[1:], prog_name="modelward")
"""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    for name in [n for n in os.environ if n.startswith("MODELWARD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def sink():
    with LocalSink() as running:
        yield running


def run(*words, **environment):
    return CliRunner().invoke(app, ["siem", *words], env=environment)


def of(sink):
    """Credentials in the environment, as the documentation wants them."""
    values = (sink.workspace_id, sink.shared_key, sink.url, sink.token)
    return dict(zip(CREDENTIALS.values(), values, strict=True))


def test_one_event_is_sent_to_each_siem_and_the_answer_is_told(sink):
    result = run("test", "--azure-log-endpoint", sink.url, **of(sink))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [re.sub(r"evt-[0-9a-f]{32}", "ID", line) for line in lines] == [
        "sentinel: accepted, event id ID",
        "splunk: accepted, event id ID",
    ]
    (event,) = sink.splunk_events
    assert event == sink.sentinel_events[0]
    assert event["event_id"] in result.stdout
    assert event["RawMessage"] == "Modelward test event"
    assert event["SuspiciousLevel"] == ""


def test_on_demand_the_event_is_worded_as_an_attack(sink):
    words = ("--splunk-url", sink.url, "--splunk-token", sink.token, "--alert")
    assert run("test", *words).exit_code == 0
    (event,) = sink.splunk_events
    assert "Image Classification AI Model Extraction Attack Identified" in event["RawMessage"]
    assert event["SuspiciousLevel"] == "high suspicious attack"


def test_a_refusal_is_told_word_by_word_without_secrets(sink):
    wrong = {**of(sink), "MODELWARD_SPLUNK_AUTHORIZATION": "Splunk another-token-than-that"}
    result = run("test", "--azure-log-endpoint", sink.url, **wrong)
    assert result.exit_code == 3
    assert "sentinel: accepted" in result.stdout
    assert "splunk: not accepted: Splunk refused the credentials (403 " in result.stderr
    assert '"text": "Invalid token", "code": 4' in result.stderr
    for secret in (sink.shared_key, sink.token, "another-token-than-that"):
        assert secret not in result.output + result.stderr


def test_an_answer_that_repeats_the_secret_is_masked(sink):
    sink.fail(status=418, body=f"what is {sink.token}?\x1b[31m")
    result = run("test", "--splunk-url", sink.url, "--authorization", sink.token)
    assert result.exit_code == 3
    assert "answered 418 what is ***?" in result.stderr
    assert "\x1b" not in result.stderr


def test_acknowledgement_is_waited_for():
    with LocalSink(acknowledge=True) as sink:
        words = ("--splunk-url", sink.url, "--splunk-token", sink.token)
        assert run("test", *words, "--acknowledge").exit_code == 0
        assert [r.question.path for r in sink.requests][-1] == "/services/collector/ack"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Expected a SIEM, got none"),
        (["--splunk-url", "https://h"], "authorization: expected together with splunk_url"),
        (["--splunk-url", "http://192.0.2.1", "--authorization", "t"], "splunk_url: expected http"),
        (["--splunk-url", "http://192.0.2.1", "--authorization", "t"], "Pass --allow-http where"),
        (["--dcr-endpoint", "https://h"], "dcr_immutable_id: expected with the other"),
        (["--dcr-endpoint", "http://127.0.0.1", "--dcr-immutable-id", "dcr-1"], "expected https"),
        (["--nonsense"], "No such option"),
    ],
)
def test_usage_errors_are_named(words, message):
    result = run("test", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_logs_ingestion_api_has_no_plain_http_to_allow():
    result = run("test", "--dcr-endpoint", "http://192.0.2.1", "--dcr-immutable-id", "dcr-1")
    assert result.exit_code == 2
    assert "expected https" in result.stderr and "allow" not in result.stderr


def test_exit_codes_are_in_the_help():
    text = " ".join(run("test", "--help").stdout.replace("│", " ").split())
    assert "Exit codes: 0 every SIEM took it; 2 wrong use: nothing was sent; 3 one or more" in text


def test_the_logs_ingestion_api_is_asked_where_its_rule_is_given(monkeypatch):
    made = []

    class Logs:
        name = "sentinel-logs"

        def __init__(self, *arguments, **options):
            made.append((arguments, options))

        def send(self, events):
            raise PermissionError("no token")

    monkeypatch.setattr("modelward.siem.SentinelLogs", Logs)
    result = run(
        "test",
        MODELWARD_SENTINEL_ENDPOINT="https://dce.example",
        MODELWARD_SENTINEL_DCR="dcr-1",
    )
    assert made == [(("https://dce.example", "dcr-1", "Custom-AIShield_CL"), {"ca_bundle": None})]
    assert result.exit_code == 3
    assert "sentinel-logs: not accepted: failed with PermissionError" in result.stderr


def start(*words, coding="utf-8"):
    return subprocess.Popen(
        [sys.executable, "-c", BARE, "siem", "sink", *words],
        env={**os.environ, "PYTHONIOENCODING": coding},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def intro(process):
    """The lines up to the last export, and the credentials in them."""
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if "MODELWARD_SPLUNK_AUTHORIZATION" in line:
            break
    return lines, dict(line.strip()[7:].split("=", 1) for line in lines if "export " in line)


def test_the_sink_prints_credentials_events_and_refusals_and_ends_with_the_count():
    process = start("--count", "2", "--seconds", "60")
    lines, environment = intro(process)
    url = environment["MODELWARD_SPLUNK_URL"]
    assert lines[0] == f"Listening at {url} (Ctrl-C ends)"
    assert f'azure_log_shared_key="{environment["MODELWARD_AZURE_LOG_SHARED_KEY"]}"' in "".join(
        lines
    )
    other = {**environment, "MODELWARD_SPLUNK_AUTHORIZATION": "wrong"}
    words = [sys.executable, "-c", BARE, "siem", "test", "--azure-log-endpoint", url]
    first = subprocess.run(
        words, env={**os.environ, **other}, capture_output=True, timeout=60, check=False
    )
    assert first.returncode == 3
    second = subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, timeout=60, check=False
    )
    assert second.returncode in (0, 3)  # the sink may end after its second event
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert re.search(r"^sentinel  \S+Z  -  -  127\.0\.0\.1  modelward-siem-test  Modelward test ev"
                     r"ent  evt-[0-9a-f]{32}$", out, re.MULTILINE), out  # fmt: skip
    assert "splunk  refused 403: Invalid token" in out
    assert " events received, " in out


def test_what_the_terminal_cannot_show_is_shown_escaped():
    process = start("--count", "1", "--seconds", "60", coding="ascii")
    _, environment = intro(process)
    url, token = (environment[f"MODELWARD_SPLUNK_{n}"] for n in ("URL", "AUTHORIZATION"))
    odd = Event(
        raw_message="é \x1b[2J 攻",
        service_name="s",
        asset_id="a",
        source_name="192.0.2.1",
        probability=0.5,
    )
    assert SplunkCollector(url, token).send([odd.fields()]).status == "accepted"
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "\\xe9 ?[2J \\u653b" in out


def test_the_sink_ends_with_ctrl_c_and_with_its_time():
    process = start()
    intro(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("0 events received, 0 of them again\n")
    result = run("sink", "--seconds", "0", "--count", "1")
    assert result.exit_code == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "host: expected one of 127.0.0.1"),
        (["--shared-key", "no base64"], "The sink cannot start"),
        (["--certfile", "/nowhere"], "certfile: expected PEM with its key"),
    ],
)
def test_the_sink_says_why_it_cannot_start(words, message):
    result = run("sink", *words, "--seconds", "0")
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_port_in_use_is_told(sink):
    result = run("sink", "--port", sink.url.rpartition(":")[2], "--seconds", "0")
    assert result.exit_code == 2
    assert "The sink cannot start" in result.stderr
