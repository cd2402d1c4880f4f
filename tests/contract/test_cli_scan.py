"""`modelward scan` as typed: output, files and exit codes."""

import json
import pickle
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelward.cli import app


class Evil:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return eval, ("1 + 1",)


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


def test_without_mlflow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", None)
    done = CliRunner().invoke(app, ["scan", "models:/none/1"])
    assert done.exit_code == 2
    assert 'pip install "modelward[mlflow]"' in done.stderr
