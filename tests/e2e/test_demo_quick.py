"""`modelward demo mnist --quick` as a newcomer runs it, in processes of its own."""

import json
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from quick_demo import COMMAND, environment


def services(data: Path):
    """Command lines of the services that run on a data folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(data).encode() in words:
            found.append(words)
    return found


@pytest.mark.slow
def test_summary_tells_the_whole_run(quick_run):
    folder, _ = quick_run
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["seed"] == 7
    assert summary["queries"] <= 2000
    assert summary["validation_accuracy"] >= 0.975
    assert summary["test_accuracy"] > 0.95
    assert summary["extraction"]["access"] == "labels"
    assert summary["extraction"]["agreement"] > 0.5  # far above one class in ten
    marks = [queries for queries, _ in summary["extraction"]["curve"]]
    assert marks == sorted(marks)
    assert marks[-1] <= 2000
    assert 0 < summary["vulnerability_score"] <= 1
    assert summary["defense"]["fpr"] < 0.2
    assert summary["defense"]["tpr"] > 0.5
    for name in ("original_predictions", "attack_predictions"):
        assert len(summary[name]) == 5
        assert all(row["label"] in {"attack", "not-attack"} for row in summary[name])
        assert all(0.5 <= row["probability"] <= 1 for row in summary[name])


@pytest.mark.slow
def test_everything_lies_where_it_is_said_to(quick_run):
    folder, printed = quick_run
    for name in (
        *("pictures/samples.png", "pictures/learning_curves.png", "model/model.h5"),
        *("artifacts/data.zip", "artifacts/label.zip", "artifacts/model.zip"),
        *("results/defense_artifact/predict.py", "results/defense_artifact/defense_model.h5"),
        *(f"results/vulnerability_report/Vulnerability.{x}" for x in ("txt", "json", "pdf", "xml")),
        *(f"results/defense_report/Defense.{x}" for x in ("txt", "json", "pdf", "xml")),
    ):
        assert (folder / name).stat().st_size > 0, name
    assert len(list((folder / "results/attack_samples").rglob("*.png"))) >= 25
    assert f"modelward serve --data {folder / 'service'}" in printed
    assert "Original samples" in printed
    assert "Attack samples" in printed


@pytest.mark.slow
def test_one_mlflow_run_holds_training_and_assessment(quick_run):
    folder, _ = quick_run
    summary = json.loads((folder / "summary.json").read_text())
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run = client.get_run(summary["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    metrics = run.data.metrics
    assert metrics["vulnerability_score"] == pytest.approx(summary["vulnerability_score"])
    assert metrics["defense_tpr"] == pytest.approx(summary["defense"]["tpr"])
    assert {"original_model_accuracy", "extracted_model_accuracy", "defense_fpr"} <= set(metrics)
    assert {"extraction_agreement", "validation_accuracy", "test_accuracy"} <= set(metrics)
    assert summary["job_id"] in run.data.tags.values()
    assert summary["severity"] in run.data.tags.values()
    top = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"Vulnerability report", "Defense report", "sample data", "defense artifact"} <= top


@pytest.mark.slow
def test_the_detections_of_the_last_step_reached_both_siems(quick_run, quick_sink):
    folder, printed = quick_run
    summary = json.loads((folder / "summary.json").read_text())
    flagged = [row for row in summary["attack_predictions"] if row["label"] == "attack"]
    assert flagged
    for siem, events in (
        ("sentinel", quick_sink.sentinel_events),
        ("splunk", quick_sink.splunk_events),
    ):
        # Nothing else: a false alarm on a test digit is no attack.
        assert {event["job_id"] for event in events} == {summary["job_id"]}
        assert [event["probability"] for event in events] == [
            round(row["probability"], 2) for row in flagged
        ]
        assert f"{siem}: {len(flagged)} of {len(flagged)} detections delivered" in printed
        assert {
            "siem": siem,
            "delivered": len(flagged),
            "pending": 0,
            "rejected": 0,
        } in summary["siem_deliveries"]


@pytest.mark.slow
def test_the_keys_are_written_nowhere(quick_run, quick_sink):
    folder, printed = quick_run
    secrets = (quick_sink.shared_key.encode(), quick_sink.token.encode())
    assert not any(secret in printed.encode() for secret in secrets)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert folder / "mlflow.db" in files
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path


@pytest.mark.slow
def test_the_service_is_gone_afterwards(quick_run):
    folder, _ = quick_run
    summary = json.loads((folder / "summary.json").read_text())
    assert services(folder / "service") == []
    with pytest.raises(httpx.TransportError, match=r"refused|Connect"):
        httpx.get(summary["monitor_link"], timeout=5)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_leaves_no_service_behind(tmp_path, number):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, "--output", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    try:
        deadline = time.monotonic() + 450  # also on a crowded machine
        while not services(folder / "service") and process.poll() is None:
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.1)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=100)
    finally:
        process.kill()
        process.wait()
    if number == signal.SIGINT:
        assert process.returncode == 3, printed
        assert "Interrupted" in printed
    else:
        assert process.returncode == 128 + signal.SIGTERM, printed
    assert services(folder / "service") == []
    assert not (folder / "summary.json").exists()
