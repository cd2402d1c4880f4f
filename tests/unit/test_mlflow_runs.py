import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from modelward.client import Assessment, AssessmentFiles, MissingExtraError
from modelward.domain import InvalidInputError, Severity
from modelward.mlflow import MLflowWarning, modelward_keras_loader, start_run
from modelward.mlflow.tracking import artifact_root, import_mlflow

pytest.importorskip("mlflow")

LOAD = """
import sys
import numpy as np
import mlflow
assert "keras" not in sys.modules
model = mlflow.pyfunc.load_model(sys.argv[1])
assert "modelward" not in sys.modules and "tensorflow" not in sys.modules
inputs = np.load(sys.argv[2])
out = model.predict(inputs)
assert model.metadata.signature is not None
assert model.input_example.shape == (2, 8, 8, 1), model.input_example.shape
np.save(sys.argv[3], out)
"""


@pytest.fixture(scope="module")
def keras_model():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def logged(tmp_path_factory, keras_model):
    """One run with a bit of everything, in a store of its own."""
    folder = tmp_path_factory.mktemp("run")
    images = np.random.default_rng(0).random((20, 8, 8, 1), dtype=np.float32)
    path_before = list(sys.path)
    mlflow = import_mlflow()
    uri_before = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    with warnings.catch_warnings():
        warnings.simplefilter("error", MLflowWarning)
        with start_run(folder=folder, experiment="tests", run_name="one") as run:
            run.log_params({f"p{i}": i for i in range(250)})
            run.log_metrics({"loss": 0.5, "nothing": None, "broken": float("nan")}, step=0)
            run.log_metrics({"loss": 0.25}, step=1)
            (folder / "curve.png").write_bytes(b"png")
            run.log_figure_file(folder / "curve.png")
            uri = run.log_keras_model(keras_model, images[:2])
            keras_model.save(folder / "saved.h5")
            from_file = run.log_keras_model(folder / "saved.h5", images[:2], "from_file")
            run.log_assessment(assessment(folder / "results"))
    assert sys.path == path_before
    assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == uri_before
    return folder, run.run_id, {"object": uri, "file": from_file}, images


def assessment(folder, **changes):
    folders = {}
    for name in ("vulnerability_report", "defense_report", "attack_samples", "defense_artifact"):
        folders[name] = folder / name
        folders[name].mkdir(parents=True)
        (folders[name] / "file.txt").write_text(name)
    values = {
        "job_id": "job-1", "model_id": "m-1", "score": 0.9, "severity": Severity.HIGH,
        "original_accuracy": 0.99, "extracted_accuracy": 0.97, "agreement": 0.98,
        "queries_spent": 200, "defense_due": True, "defense_made": True, "defense_tpr": 0.995,
        "defense_fpr": None, "seconds": 1.0, "monitor_link": "http://h/", "output": folder,
        "files": AssessmentFiles(**folders), **changes,
    }  # fmt: skip
    return Assessment(**values)


def client_of(folder):
    return import_mlflow().MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def test_run_holds_parameters_metrics_and_its_end(logged):
    folder, run_id, _, _ = logged
    client = client_of(folder)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "one"
    assert len(run.data.params) == 250
    assert [m.value for m in client.get_metric_history(run_id, "loss")] == [0.5, 0.25]
    assert not {"nothing", "broken"} & set(run.data.metrics)


def test_assessment_lies_where_the_contract_says(logged):
    folder, run_id, _, _ = logged
    client = client_of(folder)
    run = client.get_run(run_id)
    expected = {
        "original_model_accuracy": 0.99,
        "extracted_model_accuracy": 0.97,
        "extraction_agreement": 0.98,
        "vulnerability_score": 0.9,
        "defense_tpr": 0.995,
    }
    assert {k: v for k, v in run.data.metrics.items() if k != "loss"} == expected
    tags = {k.removeprefix("modelward."): v for k, v in run.data.tags.items()}
    assert (tags["job_id"], tags["model_id"], tags["severity"]) == ("job-1", "m-1", "high")
    places = {a.path for a in client.list_artifacts(run_id)}
    assert {
        "Vulnerability report", "Defense report", "sample data", "defense artifact", "figures",
    } <= places  # fmt: skip
    inside = [a.path for a in client.list_artifacts(run_id, "sample data")]
    assert inside == ["sample data/file.txt"]
    assert (folder / "mlruns").is_dir()  # beside the database, not in the working directory


def clean_environment(folder):
    """No backend chosen, no Keras settings file, nothing of ours on the path."""
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if k in keep}
    return environment | {
        "KERAS_HOME": str(folder / "no-keras-home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@pytest.mark.parametrize("kind", ["object", "file"])
def test_model_loads_in_a_fresh_process(logged, keras_model, tmp_path, kind):
    folder, _, uris, images = logged
    np.save(tmp_path / "in.npy", images)
    arguments = [uris[kind], str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD, *arguments],
        env=clean_environment(folder), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npy")
    assert found.shape == (20, 3)
    np.testing.assert_allclose(found, keras_model.predict(images, verbose=0), atol=1e-5)


def test_another_backend_in_the_process_is_told(monkeypatch, tmp_path):
    other = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "tensorflow"))
    monkeypatch.setitem(sys.modules, "keras", other)
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"logged for Keras on torch, .* Keras on tensorflow"):
        modelward_keras_loader._load_pyfunc(str(tmp_path / "model.keras"))


def test_logged_model_names_its_requirements_and_needs_no_modelward(logged):
    folder, _, uris, _ = logged
    number = uris["object"].rpartition("/")[2]
    (local,) = (p.parent for p in (folder / "mlruns").rglob(f"{number}/**/requirements.txt"))
    names = {line.split("==")[0] for line in (local / "requirements.txt").read_text().split()}
    assert {"keras", "torch", "numpy", "mlflow"} <= names
    assert "modelward" not in names
    assert "+" not in (local / "requirements.txt").read_text()
    assert "import modelward" not in (local / "code" / "modelward_keras_loader.py").read_text()


def test_a_failing_block_marks_the_run_failed(tmp_path):
    with pytest.raises(ValueError, match="mine"), start_run(folder=tmp_path) as run:
        raise ValueError("mine")
    assert client_of(tmp_path).get_run(run.run_id).info.status == "FAILED"


def test_a_store_that_does_not_start_warns_once_and_breaks_nothing(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, whatever its name says" * 100)
    with pytest.warns(MLflowWarning, match="did not take the run") as caught:
        with start_run(folder=tmp_path) as run:
            run.log_params({"a": 1})
            run.log_metrics({"a": 1.0})
            assert run.run_id is None
    assert len([w for w in caught if w.category is MLflowWarning]) == 1


def test_errors_in_between_warn_and_are_given_up_after_three(tmp_path):
    with (
        pytest.warns(MLflowWarning, match="left alone") as caught,
        start_run(folder=tmp_path) as run,
    ):
        run.log_artifact(tmp_path / "missing.txt")
        run.log_metrics({"fine": 1.0})
        for index in range(4):
            run.log_artifact(tmp_path / f"missing{index}.txt")
    messages = [str(w.message) for w in caught if w.category is MLflowWarning]
    assert len(messages) == 4
    assert "missing2.txt" in messages[-1]


def test_a_model_that_is_required_raises(tmp_path):
    with start_run(folder=tmp_path) as run:
        example = np.zeros((1, 8, 8, 1), np.float32)
        with pytest.raises(InvalidInputError, match=r"expected a \.keras or \.h5 file"):
            run.log_keras_model(tmp_path / "model.onnx", example, required=True)
        with pytest.warns(MLflowWarning, match="model model: model: expected"):
            assert run.log_keras_model(tmp_path / "model.onnx", example) is None


def test_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'modelward\[mlflow\]'"):
        with start_run():
            pass


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://127.0.0.1:5000", None),
        ("sqlite:////srv/x/mlflow.db", "file:///srv/x/mlruns"),
    ],
)
def test_artifacts_lie_beside_a_sqlite_store(uri, expected):
    assert artifact_root(uri) == expected


def test_the_variable_names_the_store_where_nothing_else_does(tmp_path, monkeypatch):
    named = f"sqlite:///{tmp_path / 'named.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    monkeypatch.chdir(tmp_path)
    with start_run() as run:
        assert run.tracking_uri == named
    with start_run(folder=tmp_path / "own") as run:
        assert run.tracking_uri == f"sqlite:///{(tmp_path / 'own' / 'mlflow.db').resolve()}"
