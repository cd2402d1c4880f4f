import io
import json
import re
import sys

import httpx
import pytest
from client_fakes import KEY, NO_WAIT, ORG, FakeService, png, sample_files
from rich.console import Console
from typer.testing import CliRunner

from modelward.cli import app
from modelward.cli import assess as command
from modelward.cli.exit_codes import ExitCode, code_for
from modelward.cli.progress_view import show_progress
from modelward.client import Client, LocalService, MissingExtraError, ServiceUnreachableError
from modelward.client import local as local_room
from modelward.domain import (
    ConflictError,
    InvalidInputError,
    QueryBudgetExceededError,
    TooManyRequestsError,
    UnauthenticatedError,
)


@pytest.fixture
def service(monkeypatch):
    """A fake service behind every client that the command makes."""
    fake = FakeService()
    for name in ("URL", "ORG_ID", "API_KEY", "DEBUG"):
        monkeypatch.delenv(f"MODELWARD_{name}", raising=False)
    monkeypatch.setattr(
        command, "Client", lambda *a: Client(*a, transport=fake.transport, retries=NO_WAIT)
    )
    monkeypatch.setattr("modelward.client.client.time.sleep", lambda _: None)
    return fake


def invoke(tmp_path, *extra, files=None):
    files = files or sample_files(tmp_path / "in")
    arguments = ["assess", "--url", "http://fake.test", "--org-id", ORG, "--api-key", KEY]
    for name in ("model", "data", "labels"):
        arguments += [f"--{name}", str(files[name])]
    return CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out"), *extra])


def test_done_prints_result_and_progress_apart(tmp_path, service):
    result = invoke(tmp_path, "--queries", "200")
    assert result.exit_code == ExitCode.DONE, result.output
    assert "vulnerability score    0.900 (95 % interval 0.810 to 0.950)" in result.stdout
    assert "agreement of the copy  97.50% (95 % interval 90.00% to 99.00%)" in result.stdout
    assert re.search(r"accuracy of the model  99\.00% *\n", result.stdout)  # no interval known
    assert "Warning: the labels look odd" in result.stderr
    assert "To set them here: --normalize, --no-normalize (normalize_data)" in result.stderr
    assert "severity               high" in result.stdout
    assert "read from 0.png" in result.stdout
    assert "largest label in label.csv, plus one" in result.stdout
    assert "vulnerability engine: completed" in result.stderr
    assert "\x1b" not in result.stderr
    assert (tmp_path / "out" / "defense_artifact" / "predict.py").is_file()
    assert service.payload["number_of_attack_queries"] == 200
    assert service.payload["normalize_data"] == "yes"
    assert KEY not in result.output


def test_json_is_all_of_stdout(tmp_path, service):
    result = invoke(tmp_path, "--json")
    found = json.loads(result.stdout)
    assert (found["score"], found["severity"], found["job_id"]) == (0.9, "high", "job-1")


def test_options_reach_the_payload(tmp_path, service):
    result = invoke(
        tmp_path, "--attack-type", "greybox", "--access", "probabilities", "--threshold", "0.5",
        "--seed", "7", "--input-dimensions", "(28,28,1)", "--classes", "10", "--no-normalize",
        "--color-space", "bgr", "--task", "IC", "--encryption-strategy", "1",
    )  # fmt: skip
    assert result.exit_code == ExitCode.DONE, result.output
    expected = {
        "attack_type": "greybox",
        "access": "probabilities",
        "vulnerability_threshold": 0.5,
        "seed": 7,
        "input_dimensions": "(28,28,1)",
        "number_of_classes": 10,
        "normalize_data": "no",
        "color_space": "bgr",
        "encryption_strategy": 1,
    }
    assert {key: service.payload[key] for key in expected} == expected
    assert "read from" not in result.stdout


@pytest.mark.parametrize(
    ("level", "code"),
    [("low", 1), ("medium", 1), ("high", 1), ("critical", 0)],
)
def test_fail_on_is_at_or_above(tmp_path, service, level, code):
    assert invoke(tmp_path, "--fail-on", level).exit_code == code


@pytest.mark.parametrize(
    "extra",
    [
        ["--queries", "0"],
        ["--queries", "1000001"],
        ["--threshold", "2"],
        ["--fail-on", "awful"],
        ["--access", "gradients"],
        ["--task", "origami"],
        ["--analysis", "origami"],
        ["--nonsense"],
    ],
)
def test_usage_errors(tmp_path, service, extra):
    result = invoke(tmp_path, *extra)
    assert result.exit_code == ExitCode.USAGE
    assert service.requests == []
    assert not (tmp_path / "out").exists()


def test_missing_file_is_a_usage_error(tmp_path, service):
    files = sample_files(tmp_path / "in") | {"model": tmp_path / "none.h5"}
    result = invoke(tmp_path, files=files)
    assert result.exit_code == ExitCode.USAGE
    assert "--model: expected a file or a folder" in result.stderr


def test_unreadable_sizes_ask_for_the_option(tmp_path, service):
    files = sample_files(tmp_path / "in")
    for image in files["data"].iterdir():
        image.write_bytes(b"BM")
    result = invoke(tmp_path, files=files)
    assert result.exit_code == ExitCode.USAGE
    assert "--input-dimensions" in result.stderr


def test_dimensions_of_colour_images_are_inferred(tmp_path, service):
    files = sample_files(tmp_path / "in")
    for image in files["data"].iterdir():
        image.write_bytes(png(20, 10, 2))
    invoke(tmp_path, files=files)
    assert service.payload["input_dimensions"] == "(10, 20, 3)"


def test_refused_analysis_is_a_usage_error(tmp_path, service):
    service.fail_next("/model_analyse/m-1", httpx.Response(412, json={"message": "no such"}))
    result = invoke(tmp_path)
    assert result.exit_code == ExitCode.USAGE
    assert "no such" in result.stderr


def test_url_without_identity_is_a_usage_error(tmp_path, service):
    result = invoke(tmp_path, "--org-id", "", "--api-key", "")
    assert result.exit_code == ExitCode.USAGE
    assert "MODELWARD_ORG_ID" in result.stderr


def test_failed_job_is_incomplete(tmp_path, service):
    service.failure = "the file is no model"
    result = invoke(tmp_path, "--fail-on", "low")
    assert result.exit_code == ExitCode.INCOMPLETE
    assert "the file is no model" in result.stderr
    assert "vulnerability engine: failed" in result.stderr
    assert "defence: failed" not in result.stderr  # it was not run
    assert not (tmp_path / "out").exists()


def test_a_refusal_names_the_options_that_set_its_parameters(tmp_path, service):
    service.failure = "model: expected 9 outputs, as number_of_classes says; got 10"
    result = invoke(tmp_path)
    assert result.exit_code == ExitCode.INCOMPLETE
    assert "To set them here: --classes (number_of_classes)\n" in result.stderr


def test_a_late_failure_keeps_the_report(tmp_path, service):
    service.failure, service.late = "the detector did not train", True
    result = invoke(tmp_path)
    assert result.exit_code == ExitCode.INCOMPLETE
    assert "Incomplete: job job-1 failed: the detector did not train" in result.stderr
    assert (tmp_path / "out" / "vulnerability_report" / "Vulnerability.json").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), httpx.ConnectError("refused")])
def test_a_job_that_goes_on_is_named(tmp_path, service, error):
    service.fail_next("/job_status_detailed", *[error] * 10)
    result = invoke(tmp_path)
    assert result.exit_code == ExitCode.INCOMPLETE
    assert "Job job-1 goes on at the service" in result.stderr
    assert "DELETE http://fake.test/api/ais/v1.5/jobs/job-1" in result.stderr


def test_result_goes_to_mlflow_where_asked(tmp_path, service):
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path / 'store.db'}"
    result = invoke(tmp_path, "--tracking-uri", store)
    assert result.exit_code == ExitCode.DONE, result.output
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("modelward").experiment_id])
    assert run.data.metrics["vulnerability_score"] == 0.9
    assert run.data.tags["modelward.severity"] == "high"
    assert run.info.run_id in result.stderr


def test_a_dead_mlflow_is_told_and_changes_nothing(tmp_path, service, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = invoke(tmp_path, "--tracking-uri", "http://127.0.0.1:9")
    assert result.exit_code == ExitCode.DONE, result.output
    assert "MLflow did not take the run" in result.stderr
    assert (tmp_path / "out" / "vulnerability_report").is_dir()


def test_lost_connection_is_incomplete(tmp_path, service):
    service.fail_next("/job_status_detailed", *[httpx.ConnectError("refused")] * 10)
    assert invoke(tmp_path).exit_code == ExitCode.INCOMPLETE


def test_due_but_missing_defence_is_incomplete_whatever_the_severity(tmp_path, service):
    service.defense = False
    result = invoke(tmp_path, "--fail-on", "low")
    assert result.exit_code == ExitCode.INCOMPLETE
    assert "a defence was due" in result.stderr
    assert (tmp_path / "out" / "vulnerability_report").is_dir()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("odd")])
def test_other_ends_are_not_taken_for_findings(tmp_path, service, error, monkeypatch):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr(Client, "assess", stop)
    assert invoke(tmp_path).exit_code == ExitCode.INCOMPLETE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInputError("x"), 2),
        (UnauthenticatedError("x"), 2),
        (ConflictError("x"), 3),
        (TooManyRequestsError("x"), 3),
        (QueryBudgetExceededError("x"), 3),
        (ServiceUnreachableError("x"), 3),
        (MissingExtraError("x"), 2),
    ],
)
def test_exit_code_of_each_error(error, code):
    assert code_for(error) == code


def test_without_url_and_without_the_extra_the_command_is_named(tmp_path, service, monkeypatch):
    monkeypatch.setattr(local_room, "_NEEDED", ("no_such_package_here",))
    result = invoke(tmp_path, "--url", "")
    assert result.exit_code == ExitCode.USAGE
    assert "pip install 'modelward[server]'" in result.stderr


def test_live_bars_show_each_step_once_it_begins(tmp_path):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    fake = FakeService()
    with (
        Client("http://fake.test", ORG, KEY, transport=fake.transport) as client,
        show_progress(console) as progress,
    ):
        client.assess(
            **sample_files(tmp_path / "in"),
            output=tmp_path / "out",
            progress=progress,
            poll_seconds=0,
        )
    shown = screen.getvalue()
    for title in (
        "prepare",
        "upload",
        "sanity check",
        "vulnerability engine",
        "defence",
        "download",
    ):
        assert title in shown
    assert shown.count("job job-1, monitor http://fake.test/jobs/job-1") == 1


FAKE_PROGRAM = """
import sys, time
if sys.argv[1] == "org":
    print('{"org_id": "o", "api_key": "k"}')
elif MODE == "dies":
    sys.exit("no port left")
else:
    print("noise")
    print("Modelward is serving at http://127.0.0.1:9")
    time.sleep(600)
"""


@pytest.fixture
def fake_program(monkeypatch):
    def use(mode):
        program = f"MODE = {mode!r}\n" + FAKE_PROGRAM
        monkeypatch.setattr(
            local_room, "_command", lambda *a: [sys.executable, "-P", "-c", program, *a]
        )

    return use


def test_local_service_starts_and_ends(tmp_path, fake_program):
    fake_program("lives")
    with LocalService(tmp_path / "data") as service:
        assert (service.url, service.org_id, service.api_key) == ("http://127.0.0.1:9", "o", "k")
        assert "api_key" not in repr(service)
        process = service._process
        assert process.poll() is None
        assert service.client().url.startswith("http://127.0.0.1:9/")
    assert process.poll() is not None
    assert (tmp_path / "data").is_dir()
    service.stop()  # harmless


def test_local_service_that_dies_tells_its_last_words(fake_program):
    fake_program("dies")
    with pytest.raises(ServiceUnreachableError, match="no port left"):
        with LocalService():
            pass


def test_local_service_ends_when_the_block_raises(fake_program):
    fake_program("lives")
    with pytest.raises(ValueError, match="mine"):
        with LocalService() as service:
            process = service._process
            raise ValueError("mine")
    assert process.poll() is not None


def test_a_private_service_takes_the_settings_of_the_sandbox_only(monkeypatch):
    monkeypatch.setenv("MODELWARD_SANDBOX_INTERPRETERS", "/opt/py38/bin/python")
    monkeypatch.setenv("MODELWARD_PORT", "1")
    found = local_room._environment()
    assert found["MODELWARD_SANDBOX_INTERPRETERS"] == "/opt/py38/bin/python"
    assert "MODELWARD_PORT" not in found
