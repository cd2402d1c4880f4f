"""The extraction pipeline on a model that runs in the sandbox and gives labels only."""

import io
import json
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from sandbox_need import need_sandbox
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from modelward.domain import AssessmentError, parse_image_extraction
from modelward.jobs.pipeline import DefenseDeclined, StageContext, load_pipeline

BASE_MODEL = b"""
import numpy as np
class BaseModel:
    def __init__(self, model_weight_path="weights.npz"):
        self.parts = np.load(model_weight_path)
    def predict(self, X):
        return (X.reshape(len(X), -1) @ self.parts["w"] + self.parts["b"]).argmax(axis=1)
"""


class Sink:
    """Keeps what a job tells."""

    def __init__(self):
        self.values, self.artifacts = {}, {}

    def progress(self, fraction, message):
        assert 0 <= fraction <= 1

    def publish(self, values):
        self.values.update(values)

    def put_artifact(self, name, content):
        self.artifacts[name] = content if isinstance(content, bytes) else content.read_bytes()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Digits, and a linear model of them as base_model.py with weights."""
    need_sandbox()
    folder = tmp_path_factory.mktemp("uploads")
    found = load_digits()
    images = np.round(found.images / 16 * 255).astype(np.uint8)
    flat = images.reshape(len(images), -1) / 255
    fitted = LogisticRegression(max_iter=200).fit(flat[:1200], found.target[:1200])
    weights = io.BytesIO()
    np.savez(weights, w=fitted.coef_.T, b=fitted.intercept_)
    paths = {slot: folder / f"{slot}.zip" for slot in ("data", "label", "model")}
    rows = range(1200, 1500)
    with zipfile.ZipFile(paths["data"], "w") as archive:
        for row in rows:
            buffer = io.BytesIO()
            Image.fromarray(images[row]).save(buffer, "PNG")
            archive.writestr(f"{row}.png", buffer.getvalue())
    table = "".join(f"{row}.png,{found.target[row]}\n" for row in rows)
    with zipfile.ZipFile(paths["label"], "w") as archive:
        archive.writestr("label.csv", "image,label\n" + table)
    with zipfile.ZipFile(paths["model"], "w") as archive:
        archive.writestr("base_model.py", BASE_MODEL)
        archive.writestr("weights.npz", weights.getvalue())
    accuracy = float(np.mean(fitted.predict(flat[1200:1500]) == found.target[1200:1500]))
    return paths, accuracy


def context_for(folder, inputs, **parameters):
    payload = {
        "input_dimensions": "(8, 8, 1)",
        "number_of_classes": "10",
        "number_of_attack_queries": 50,
        "encryption_strategy": 1,
        "seed": 7,
        **parameters,
    }
    (folder / "work").mkdir()
    return StageContext(
        job_id="job-1",
        model_id="model-1",
        task="image_classification",
        analysis="extraction",
        payload=payload,
        config=parse_image_extraction(payload),
        inputs=inputs,
        workdir=folder / "work",
        created=datetime(2026, 1, 2, tzinfo=UTC),
        sink=Sink(),
    )


def run(context):
    for _, stage in load_pipeline("image_classification", "extraction").stages:
        stage(context)


@pytest.mark.slow
def test_a_model_of_labels_only_is_assessed_like_any_other(archives, tmp_path):
    paths, accuracy = archives
    # Without a defence: it asks the model for nothing but its latency, and trains for long.
    context = context_for(tmp_path, paths, vulnerability_threshold=1)
    with pytest.raises(DefenseDeclined):
        run(context)
    artifacts = context.sink.artifacts
    assert {"Vulnerability.pdf", "Attack_samples.zip", "Surrogate_model.zip"} <= set(artifacts)
    report = json.loads(artifacts["Vulnerability.json"])
    assert report["queries_spent"] == 50
    assert report["threat_model"]["access"] == "labels"
    assert context.sink.values["original_accuracy"] == pytest.approx(accuracy)
    assert report["original_accuracy"]["value"] == pytest.approx(accuracy)
    assert report["agreement"]["n"] == 300
    original = report["original"]
    assert original["parameters"] is None
    assert original["layers"] == []
    assert original["hidden"] == "not visible: runs in the sandbox"
    assert original["inference_ms"] > 0
    assert any("class numbers" in note for note in report["notes"])
    text = artifacts["Vulnerability.txt"].decode()
    assert text.count("not visible: runs in the sandbox") >= 2, "parameters and architecture"
    assert b"not visible" in artifacts["Vulnerability.xml"]


def test_probabilities_of_a_model_that_gives_labels(archives, tmp_path):
    context = context_for(tmp_path, archives[0], access="probabilities")
    with pytest.raises(AssessmentError, match=r"access: expected labels, because .*class numbers"):
        run(context)
    assert context.sink.artifacts == {}


def test_the_archive_is_not_what_was_announced(archives, tmp_path):
    context = context_for(tmp_path, archives[0], encryption_strategy=0)
    with pytest.raises(AssessmentError, match=r"'base_model.py', which encryption_strategy 1"):
        run(context)
