"""Archives for upload, and what is read from archives that come back."""

import csv
import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from modelward.client import Assessment, AssessmentFiles
from modelward.demo import (
    Assessed,
    CloneResult,
    Delivered,
    DemoSettings,
    Split,
    Summary,
    Verdict,
    defense_figures,
    judge_clone,
    judge_detector,
    load_defense,
    pack_artifacts,
    predict_samples,
    read_images,
    reopen_command,
    reread_accuracy,
)
from modelward.demo.pipeline import _Findings, _problems
from modelward.nets import Dense, Flatten, NetSpec, build_torch, save_h5, to_keras

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 1)).astype(np.uint8)
LABELS = np.array([0, 1, 1, 0, 1, 0])
SPLIT = Split(IMAGES, LABELS)


@pytest.fixture
def packed(tmp_path):
    model = tmp_path / "trained.h5"
    model.write_bytes(b"weights")
    return pack_artifacts(SPLIT, model, tmp_path / "artifacts")


def test_archives_hold_what_the_contract_asks_for(packed):
    with zipfile.ZipFile(packed.data) as archive:
        assert archive.namelist() == [f"data/{n:05d}.png" for n in range(6)]
        pixels = np.asarray(Image.open(io.BytesIO(archive.read("data/00004.png"))))
        assert (pixels == IMAGES[4, ..., 0]).all()
    with zipfile.ZipFile(packed.label) as archive:
        [name] = archive.namelist()
        rows = list(csv.reader(io.StringIO(archive.read(name).decode())))
    assert rows[:3] == [["image", "label"], ["00000.png", "0"], ["00001.png", "1"]]
    with zipfile.ZipFile(packed.model) as archive:
        assert archive.namelist() == ["model.h5"]
        assert archive.read("model.h5") == b"weights"


def test_equal_inputs_give_equal_archives(packed, tmp_path):
    again = pack_artifacts(SPLIT, tmp_path / "trained.h5", tmp_path / "again")
    for name in ("data", "label", "model"):
        assert getattr(again, name).read_bytes() == getattr(packed, name).read_bytes()


def test_images_come_back_as_they_were(packed):
    names, images = read_images(packed.data)
    assert names[0] == "00000.png"
    assert images.dtype == np.uint8
    assert (images == IMAGES).all()


def test_reread_accuracy_asks_about_the_packed_pixels(packed):
    truth = {IMAGES[i].tobytes(): label for i, label in enumerate(LABELS)}

    def all_but_one(images):
        answers = np.zeros((len(images), 2), np.float32)
        for row, image in enumerate(images):
            label = truth[np.rint(image * 255).astype(np.uint8).tobytes()]
            answers[row, label if row else 1 - label] = 1
        return answers

    assert reread_accuracy(packed, all_but_one) == pytest.approx(5 / 6)


def save_constant(path, label):
    """A Keras model that always answers one of three classes."""
    spec = NetSpec((5, 4, 1), (Flatten(), Dense(3)))
    module = build_torch(spec, 0)
    for value in module.parameters():
        value.data.zero_()
    module[-1].bias.data[label] = 4.0
    save_h5(to_keras(spec, module), path)


def test_clone_is_judged_at_every_checkpoint(tmp_path):
    save_constant(tmp_path / "surrogate_model.h5", 1)
    save_constant(tmp_path / "curve" / "000500.h5", 2)
    save_constant(tmp_path / "curve" / "001000.h5", 1)

    def target(images):  # answers 1 to four images of six, 0 to the others
        return np.eye(3)[[1, 1, 1, 1, 0, 0]]

    result = judge_clone(tmp_path, target, SPLIT)
    assert result.agreement == pytest.approx(4 / 6)
    assert result.accuracy == pytest.approx(3 / 6)
    assert result.curve == ((500, 0.0), (1000, pytest.approx(4 / 6)))


DETECTOR = """
import numpy as np

class AISDefenseModel:
    def __init__(self, defense_model):
        self.defense_model = defense_model

    def predict(self, x):
        bright = x.reshape(len(x), -1).mean(1) > (0.5 if x.max() <= 1 else 127)
        return np.where(bright, "attack", "not-attack"), np.where(bright, 0.75, 0.875)
"""


def test_downloaded_detector_is_asked_about_digits_and_samples(tmp_path):
    save_constant(tmp_path / "defense_model.h5", 1)
    (tmp_path / "predict.py").write_text(DETECTOR)
    samples = tmp_path / "samples"
    samples.mkdir()
    for n in range(7):
        Image.fromarray(np.full((5, 4), 250, np.uint8)).save(samples / f"{n}.png")
    dark = np.full((8, 5, 4, 1), 20, np.uint8)
    dark[:2] = 240
    test = Split(dark, np.zeros(8, np.int64))

    defense = load_defense(tmp_path)
    assert judge_detector(defense, test) == pytest.approx(2 / 8)
    original, attack = predict_samples(defense, test, samples, count=5, seed=1)
    assert len(original) == 5
    assert attack == [Verdict("attack", 0.75)] * 5
    assert Verdict("not-attack", 0.875) in original


def test_defense_figures_take_the_weakest_measured_source():
    report = {
        "auroc": {"value": 0.999},
        "tpr": {"value": 0.99},
        "unseen": [
            {"name": "strokes", "tpr": {"value": 0.97}},
            {"name": "noise", "tpr": {"value": None, "reason": "too few"}},
            {"name": "blobs", "tpr": {"value": 0.91}},
        ],
        "cost": {"ratio": 1.5},
    }
    figures = defense_figures(report, 0.012)
    assert (figures.tpr_unseen, figures.fpr, figures.overhead_ratio) == (0.91, 0.012, 1.5)
    assert defense_figures({**report, "unseen": []}, 0.0).tpr_unseen is None
    assert defense_figures(None, None).auroc is None


def test_summary_has_the_documented_keys(tmp_path):
    summary = Summary(
        validation_accuracy=0.9935,
        test_accuracy=0.995,
        train_seconds=101.26,
        seconds_to_target=None,
        assess_seconds=200.0,
        queries=20_000,
        seed=42,
        job_id="job",
        mlflow_run_id="run",
        access="labels",
        clone=CloneResult(0.98, 0.985, ((5000, 0.96), (20_000, 0.985))),
        vulnerability_score=0.98,
        severity="critical",
        defense=defense_figures(None, None),
        original_predictions=[Verdict("not-attack", 0.99)],
        attack_predictions=[Verdict("attack", 0.9)],
        deliveries=[Delivered("splunk", 4, 1, 0)],
        output_dir=Path("runs/one"),
        monitor_link="http://127.0.0.1/monitor",
    )
    summary.write(tmp_path / "summary.json")
    content = json.loads((tmp_path / "summary.json").read_text())
    assert set(content) == {
        *("validation_accuracy", "test_accuracy", "train_seconds", "seconds_to_target"),
        *("assess_seconds", "queries", "seed", "job_id", "mlflow_run_id", "extraction"),
        *("vulnerability_score", "severity", "defense", "original_predictions"),
        *("attack_predictions", "siem_deliveries", "output_dir", "monitor_link"),
    }
    assert content["extraction"] == {
        "access": "labels",
        "accuracy": 0.98,
        "agreement": 0.985,
        "curve": [[5000, 0.96], [20_000, 0.985]],
    }
    assert set(content["defense"]) == {"auroc", "tpr", "fpr", "tpr_unseen", "overhead_ratio"}
    assert content["seconds_to_target"] is None
    assert content["attack_predictions"] == [{"label": "attack", "probability": 0.9}]
    assert content["siem_deliveries"] == [
        {"siem": "splunk", "delivered": 4, "pending": 1, "rejected": 0}
    ]


def test_what_is_missing_is_a_problem():
    result = Assessment(
        job_id="job",
        model_id="model",
        score=0.9,
        severity="high",
        original_accuracy=0.99,
        extracted_accuracy=0.95,
        agreement=0.95,
        queries_spent=100,
        defense_due=True,
        defense_made=False,
        seconds=1.0,
        monitor_link="",
        output=Path(),
        files=AssessmentFiles(vulnerability_report=Path()),
        problems=("a defence was due",),
    )
    findings = _Findings(None, defense_figures(None, None), [], [], [])
    assessed = Assessed(result, {}, 1.0)
    target = SimpleNamespace(trained=SimpleNamespace(validation_accuracy=0.99, target=0.993))
    whole = DemoSettings(output=Path())
    problems = _problems(whole, target, assessed, findings, None)
    assert problems[0] == "a defence was due"
    assert "reached 99.00% on the validation digits, expected at least 99.30%" in problems[1]
    assert "no surrogate model" in problems[2]
    assert "MLflow did not take the model" in problems[3]
    # The small data of a quick run promise no accuracy.
    quick = _problems(DemoSettings(output=Path(), quick=True), target, assessed, findings, "run")
    assert len(quick) == 2


def test_reopen_command_quotes_the_folder():
    assert reopen_command(Path("my runs/x")) == "modelward serve --data 'my runs/x'"


def test_reopen_command_keeps_the_port_of_the_links():
    again = reopen_command(Path("x"), "http://127.0.0.1:41237/jobs/job-1?token=t")
    assert again == "modelward serve --data x --port 41237"
