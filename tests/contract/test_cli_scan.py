"""`modelward scan` as typed: output, files and exit codes."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelward.cli import app


class Evil:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return eval, ("1 + 1",)


def command(
    *words: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from modelward.cli import app; app()", *words],
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "cut.pkl").write_bytes(b"\x80\x04N")
    (tmp_path / "code.py").write_text("import os\n")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "bad.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "mixed" / "cut.pkl").write_bytes(b"\x80\x04N")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("good.pkl", [], 0),
        ("bad.pkl", [], 1),
        ("bad.pkl", ["--fail-on", "critical"], 1),
        ("code.py", [], 0),
        ("code.py", ["--fail-on", "info"], 1),
        ("cut.pkl", [], 3),
        ("mixed", [], 3),
        ("missing.pkl", [], 2),
        ("good.pkl", ["--fail-on", "dreadful"], 2),
    ],
)
def test_exit_codes(files: Path, name: str, options: list[str], code: int):
    done = CliRunner().invoke(app, ["scan", str(files / name), *options])
    assert done.exit_code == code, done.output


def test_table(files: Path):
    done = CliRunner().invoke(app, ["scan", str(files / "mixed")], env={"COLUMNS": "200"})
    assert "MW-PKL-001" in done.stdout and "builtins.eval" in done.stdout
    assert "Not read" in done.stdout and "without STOP" in done.stdout
    assert "Verdict: malicious, not complete" in done.stdout


def test_json_and_sarif(files: Path):
    sarif = files / "out.sarif"
    done = CliRunner().invoke(
        app, ["scan", str(files / "bad.pkl"), "--json", "--sarif", str(sarif)]
    )
    assert json.loads(done.stdout)["verdict"] == "malicious"
    assert json.loads(sarif.read_text())["version"] == "2.1.0"


def test_nothing_but_the_report_is_printed(tmp_path: Path):
    """The second scanner prints warnings of its own about arrays of objects in joblib's files."""
    import joblib
    import numpy as np

    names = np.array(["a", "b"], dtype=object)
    joblib.dump([names, np.array(["c"], dtype=object), names.dtype], tmp_path / "m.joblib")
    done = CliRunner().invoke(app, ["scan", str(tmp_path / "m.joblib"), "--json"])
    assert json.loads(done.stdout)["verdict"] == "clean"


def test_empty_and_compiled_files_are_not_called_read(tmp_path: Path):
    """Nothing to load, and nothing that reading could clear."""
    for name, content in (("m.pkl", b""), ("m.pyc", b"\xa7\r\r\n" + bytes(12) + b"\xe3")):
        (tmp_path / name).write_bytes(content)
        done = CliRunner().invoke(app, ["scan", str(tmp_path / name)])
        assert done.exit_code == 3, done.output
    assert "compiled code is not judged" in done.stdout


def test_sarif_that_cannot_be_written(files: Path):
    done = CliRunner().invoke(app, ["scan", str(files / "good.pkl"), "--sarif", str(files)])
    assert done.exit_code == 2
    assert "--sarif: expected a file" in done.stderr


def test_names_with_markup_are_printed_as_they_are(tmp_path: Path):
    (tmp_path / "[red]x.pkl").write_bytes(pickle.dumps(Evil()))
    done = CliRunner().invoke(app, ["scan", str(tmp_path)], env={"COLUMNS": "200"})
    assert "[red]x.pkl" in done.stdout


def test_registered_model(tmp_path: Path):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model("thief")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "model" / "model.pkl").write_bytes(pickle.dumps(Evil()))
    client.create_model_version("thief", str(tmp_path / "model"))
    done = CliRunner().invoke(
        app, ["scan", "models:/thief/1", "--json"], env={"MLFLOW_TRACKING_URI": uri}
    )
    assert done.exit_code == 1, done.output
    assert json.loads(done.stdout)["findings"][0]["path"] == "model.pkl"


def test_registered_model_that_is_not_there(tmp_path: Path):
    pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    done = CliRunner().invoke(app, ["scan", "models:/none/1"], env={"MLFLOW_TRACKING_URI": uri})
    assert done.exit_code == 2
    assert "expected a model that MLflow can download" in done.stderr


def test_without_a_registry_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mlflow")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    done = command("scan", "models:/nope/1")
    assert done.returncode == 2
    assert "MLFLOW_TRACKING_URI" in done.stderr and "INFO" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list((tmp_path / "cwd").iterdir()) == []


def test_mlflow_keeps_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'm.db'}")
    done = command("scan", "models:/none/1")
    assert done.returncode == 2
    assert "expected a model that MLflow can download" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broken_pipe_does_not_change_the_exit_code(tmp_path: Path):
    for number in range(150):
        (tmp_path / f"cut-{number:03}.pkl").write_bytes(b"\x80\x04N")
    for options in ([], ["--json"]):
        reading, writing = os.pipe()
        os.close(reading)  # as if head had ended
        try:
            done = command("scan", str(tmp_path), *options, stdout=writing)
        finally:
            os.close(writing)
        assert done.returncode == 3
        assert done.stderr == ""


def test_an_error_that_nobody_reads_keeps_its_exit_code(tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = command("scan", str(tmp_path / "missing"), stdout=writing, stderr=writing)
    finally:
        os.close(writing)
    assert done.returncode == 2


@pytest.mark.parametrize("error", [RuntimeError("boom"), RecursionError(), KeyboardInterrupt()])
def test_what_was_not_expected_is_no_finding(
    files: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sys.modules["modelward.cli.scan"], "scan_path", fail)
    done = CliRunner().invoke(app, ["scan", str(files / "good.pkl")])
    assert done.exit_code == 3
    assert done.stderr and "Traceback" not in done.output


def test_without_mlflow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", None)
    done = CliRunner().invoke(app, ["scan", "models:/none/1"])
    assert done.exit_code == 2
    assert 'pip install "modelward[mlflow]"' in done.stderr
