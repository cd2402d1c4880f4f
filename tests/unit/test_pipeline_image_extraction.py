"""The extraction pipeline, stage by stage, on scikit-learn's digits."""

import io
import json
import zipfile
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from modelward.domain import AssessmentError, parse_image_extraction
from modelward.jobs.pipeline import DefenseDeclined, StageContext, load_pipeline
from modelward.jobs.pipelines.image_extraction import measures
from modelward.nets import (
    Conv,
    Dense,
    Flatten,
    MaxPool,
    NetSpec,
    Relu,
    build_torch,
    save_h5,
    to_keras,
)


class Sink:
    """Keeps what a job tells."""

    def __init__(self):
        self.values, self.artifacts, self.messages = {}, {}, []

    def progress(self, fraction, message):
        assert 0 <= fraction <= 1
        self.messages.append(message)

    def publish(self, values):
        self.values.update(values)

    def put_artifact(self, name, content):
        self.artifacts[name] = content if isinstance(content, bytes) else content.read_bytes()


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    images = np.round(found.images / 16 * 255).astype(np.uint8)[..., None]
    return images, found.target.astype(np.int64)


@pytest.fixture(scope="module")
def model_file(digits, tmp_path_factory):
    import torch

    images, labels = digits
    spec = NetSpec(
        (8, 8, 1), (Conv(16), Relu(), MaxPool(2), Conv(32), Relu(), Flatten(), Dense(10))
    )
    net = build_torch(spec, seed=0)
    x = torch.tensor(images[:1200] / 255, dtype=torch.float32).permute(0, 3, 1, 2)
    y = torch.tensor(labels[:1200])
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(300):
        rows = torch.arange(step * 64, step * 64 + 64) % 1200
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("model") / "digits.h5"
    save_h5(to_keras(spec, net.eval()), path)
    return path


def _archives(folder, images, labels, model_file):
    paths = {slot: folder / f"{slot}.zip" for slot in ("data", "label", "model")}
    with zipfile.ZipFile(paths["data"], "w") as archive:
        for index, pixels in enumerate(images):
            buffer = io.BytesIO()
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
            archive.writestr(f"data/{index}.png", buffer.getvalue())
    rows = "".join(f"{index}.png,{label}\n" for index, label in enumerate(labels))
    with zipfile.ZipFile(paths["label"], "w") as archive:
        archive.writestr("label.csv", "image,label\n" + rows)
    with zipfile.ZipFile(paths["model"], "w") as archive:
        archive.write(model_file, "model.h5")
    return paths


def _context(folder, archives, **parameters):
    payload = {
        "input_dimensions": "(8, 8, 1)",
        "number_of_classes": "10",
        "number_of_attack_queries": 600,
        "seed": 7,
        **parameters,
    }
    workdir = folder / "work"
    workdir.mkdir()
    return StageContext(
        job_id="job-1",
        model_id="model-1",
        task="image_classification",
        analysis="extraction",
        payload=payload,
        config=parse_image_extraction(payload),
        inputs=archives,
        workdir=workdir,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        sink=Sink(),
    )


def _run(context):
    for _, stage in load_pipeline("image_classification", "extraction").stages:
        stage(context)


@pytest.fixture(scope="module")
def finished(digits, model_file, tmp_path_factory):
    images, labels = digits
    folder = tmp_path_factory.mktemp("job")
    archives = _archives(folder, images[1200:1500], labels[1200:1500], model_file)
    context = _context(folder, archives)
    _run(context)
    return context


@pytest.mark.slow
def test_a_whole_job_leaves_every_artifact(finished, digits):
    artifacts = finished.sink.artifacts
    formats = ("json", "txt", "xml", "pdf")
    expected = {f"{kind}.{end}" for kind in ("Vulnerability", "Defense") for end in formats}
    expected |= {"Attack_samples.zip", "Defense_artifact.zip", "Surrogate_model.zip"}
    assert expected == set(artifacts)
    report = json.loads(artifacts["Vulnerability.json"])
    assert report["queries_spent"] == 600
    assert sum(source["queries"] for source in report["sources"]) == 600
    assert sum(view["queries"] for view in report["per_class"]) == 600
    assert report["curve"][-1]["queries"] == 600
    assert report["score"] == pytest.approx(finished.sink.values["score"])
    agreement, majority = report["agreement"]["value"], report["majority_share"]
    assert report["score"] == pytest.approx(max(0, (agreement - majority) / (1 - majority)))
    assert report["agreement"]["n"] == 300
    assert finished.sink.values["original_accuracy"] > 0.9
    assert agreement > 0.5, "a clone of 600 queries should be far above chance (0.1)"


@pytest.mark.slow
def test_attack_samples_are_images_of_one_size_and_nothing_else(finished):
    with zipfile.ZipFile(io.BytesIO(finished.sink.artifacts["Attack_samples.zip"])) as archive:
        sizes = {Image.open(archive.open(name)).size for name in archive.namelist()}
        count = len(archive.namelist())
    assert sizes == {(8, 8)}
    assert count >= 25


@pytest.mark.slow
def test_the_downloaded_surrogate_is_the_one_that_was_scored(
    finished, digits, tmp_path, model_file
):
    import keras

    with zipfile.ZipFile(io.BytesIO(finished.sink.artifacts["Surrogate_model.zip"])) as archive:
        archive.extractall(tmp_path)
        marks = sorted(int(name[6:-3]) for name in archive.namelist() if name.startswith("curve/"))
    report = json.loads(finished.sink.artifacts["Vulnerability.json"])
    assert marks == [point["queries"] for point in report["curve"]]
    images = digits[0][1200:1500].astype(np.float32) / 255
    clone = keras.models.load_model(tmp_path / "surrogate_model.h5", compile=False)
    target = keras.models.load_model(model_file, compile=False)
    same = clone.predict(images, verbose=0).argmax(1) == target.predict(images, verbose=0).argmax(1)
    assert np.mean(same) == pytest.approx(report["agreement"]["value"])


@pytest.mark.slow
def test_threshold_one_declines_the_defence(digits, model_file, tmp_path):
    images, labels = digits
    archives = _archives(tmp_path, images[1200:1300], labels[1200:1300], model_file)
    context = _context(tmp_path, archives, vulnerability_threshold="1", number_of_attack_queries=50)
    with pytest.raises(DefenseDeclined):
        _run(context)
    assert "Vulnerability.pdf" in context.sink.artifacts
    assert not [name for name in context.sink.artifacts if name.startswith("Defense")]


@pytest.mark.slow
def test_grey_box_scores_only_what_did_not_seed_the_queries(digits, model_file, tmp_path):
    images, labels = digits
    archives = _archives(tmp_path, images[1200:1300], labels[1200:1300], model_file)
    context = _context(
        tmp_path,
        archives,
        attack_type="greybox",
        vulnerability_threshold=1,
        number_of_attack_queries=100,
    )
    with pytest.raises(DefenseDeclined):
        _run(context)
    state = context.shared["assessment"]
    assert set(state.seeds) | set(state.scored) == set(range(100))
    assert not set(state.seeds) & set(state.scored)
    report = json.loads(context.sink.artifacts["Vulnerability.json"])
    assert report["agreement"]["n"] == 50
    assert "50 images" in report["threat_model"]["knowledge"]


@pytest.mark.slow
def test_a_model_that_answers_one_label_only_fails_with_advice(digits, tmp_path):
    import torch

    spec = NetSpec((8, 8, 1), (Flatten(), Dense(10)))
    net = build_torch(spec, seed=0)
    with torch.no_grad():
        net[1].bias[3] = 1e4
    save_h5(to_keras(spec, net), tmp_path / "constant.h5")
    images, labels = digits
    archives = _archives(tmp_path, images[:30], labels[:30], tmp_path / "constant.h5")
    context = _context(tmp_path, archives)
    with pytest.raises(AssessmentError, match="label 3 to all 30"):
        _run(context)
    assert context.sink.artifacts == {}


@pytest.mark.slow
def test_channel_order_is_found_by_accuracy_where_it_was_not_given(tmp_path):
    """A model that looks at the first channel only, trained on images read as BGR."""
    import torch

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    images = rng.integers(0, 60, (60, 8, 8, 3), dtype=np.uint8)
    images[labels == 1, ..., 2] += 150  # class 1 is blue; BGR puts blue first
    spec = NetSpec((8, 8, 3), (Flatten(), Dense(2)))
    net = build_torch(spec, seed=0)
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[1, 0::3] = 1.0
        net[1].bias[:] = torch.tensor([0.0, -0.4 * 64])
    save_h5(to_keras(spec, net), tmp_path / "bgr.h5")
    archives = _archives(tmp_path, images, labels, tmp_path / "bgr.h5")
    context = _context(
        tmp_path,
        archives,
        input_dimensions="(8, 8, 3)",
        number_of_classes=2,
        number_of_attack_queries=60,
        vulnerability_threshold=1,
    )
    with pytest.raises(DefenseDeclined):
        _run(context)
    report = json.loads(context.sink.artifacts["Vulnerability.json"])
    assert report["original_accuracy"]["value"] == 1.0
    assert any("bgr was chosen" in note for note in report["notes"])


@pytest.mark.slow
def test_labels_in_another_order_are_told_in_every_format(digits, model_file, tmp_path):
    images, labels = digits
    archives = _archives(tmp_path, images[1200:1300], (labels[1200:1300] + 1) % 10, model_file)
    context = _context(tmp_path, archives, vulnerability_threshold=1, number_of_attack_queries=50)
    with pytest.raises(DefenseDeclined):
        _run(context)
    artifacts = context.sink.artifacts
    (warning,) = json.loads(artifacts["Vulnerability.json"])["warnings"]
    assert "no more than always giving the most frequent label" in warning
    assert "labels count from 0 in the order of the model's outputs" in warning
    assert "Warning: the model is right on" in artifacts["Vulnerability.txt"].decode()
    assert "Warning: the model is right on" in artifacts["Vulnerability.xml"].decode()


class _Scaled:
    """A model that is right on pixels of one scale, and calls everything 0 on the other."""

    def __init__(self, wants, gets=True):
        self.wants, self.gets = wants, gets

    def with_normalisation(self, normalize_data):
        return _Scaled(self.wants, normalize_data)

    def predict(self, batch):
        if self.wants is None:
            raise AssessmentError("model: expected finite answers")
        label = np.round(batch[:, 0, 0, 0] * 255 / 100).astype(int) * (self.wants == self.gets)
        return np.eye(3, dtype=np.float32)[label]


def _asked(wants, gets):
    labels = np.arange(30) % 3
    images = np.repeat(labels * 100, 4).reshape(30, 2, 2, 1).astype(np.uint8)
    model = _Scaled(wants, gets)
    found = np.zeros(30, int) if wants is None else measures.predicted_labels(model, images)
    return SimpleNamespace(
        model=model,
        images=SimpleNamespace(images=images, labels=labels),
        target_labels=found,
        config=SimpleNamespace(normalize_data=gets),
    )


@pytest.mark.parametrize(
    ("wants", "gets", "said"),
    [(False, True, "normalize_data: no"), (True, False, "normalize_data: yes")],
)
def test_pixels_on_the_wrong_scale_are_noticed(wants, gets, said):
    hint = measures.hint_at_scale(_asked(wants, gets))
    assert said in hint and "right on 100.00 %" in hint


@pytest.mark.parametrize(("wants", "gets"), [(True, True), (False, False), (None, True)])
def test_nothing_is_said_of_the_scale_without_evidence(wants, gets):
    assert measures.hint_at_scale(_asked(wants, gets)) == ""
