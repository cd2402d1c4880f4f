"""Pickled models and SavedModel trees in the sandbox answer as they do outside."""

import contextlib
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sandbox_need import (
    IMAGES,
    LABELS,
    OWN,
    TENSORFLOW,
    base_model,
    need_sandbox,
    need_tensorflow,
    opened,
)

from modelward.domain import Access, AssessmentError, SandboxOptions
from modelward.scan import Verdict, scan_path
from modelward.targets import Exchange
from modelward.targets.sandbox import child, open_tabular


@pytest.fixture(autouse=True)
def _sandbox():
    need_sandbox()


@pytest.fixture(scope="module")
def table():
    rows = np.random.default_rng(3).normal(size=(200, 6))
    return rows, (rows[:, 0] > 0).astype(int) + (rows[:, 1] > 0.5)


def pickled(folder: Path, model: object, suffix=".pkl") -> Exchange:
    if suffix == ".joblib":
        import joblib

        joblib.dump(model, folder / "model.joblib", compress=3)
    else:
        (folder / "model.pkl").write_bytes(pickle.dumps(model))
    return Exchange("pickle", folder, f"model{suffix}")


@pytest.mark.parametrize("suffix", [".pkl", ".joblib"])
def test_pickled_classifiers(tmp_path, table, suffix):
    from sklearn.ensemble import RandomForestClassifier

    rows, labels = table
    forest = RandomForestClassifier(5, random_state=0).fit(rows, labels)
    with contextlib.closing(open_tabular(pickled(tmp_path, forest, suffix), OWN)) as model:
        assert (model.features, model.classes) == (6, 3)
        assert "RandomForestClassifier" in model.framework
        assert (model.predict(rows) == forest.predict_proba(rows)).all()
        with pytest.raises(AssessmentError, match=r"rows of 6 numbers; got \(2, 5\)"):
            model.predict(rows[:2, :5])


@pytest.mark.parametrize("suffix", [".pkl", ".joblib"])
def test_pickled_xgboost(tmp_path, table, suffix):
    """The estimator and the bare booster."""
    xgboost = pytest.importorskip("xgboost")
    rows, labels = table
    fitted = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(rows, labels)
    for one in (fitted, fitted.get_booster()):
        exchange = pickled(tmp_path, one, suffix)
        scanned = scan_path(tmp_path / f"model{suffix}")
        assert scanned.verdict is Verdict.CLEAN, (scanned.findings, scanned.unread)
        with contextlib.closing(open_tabular(exchange, OWN)) as model:
            assert model.features == 6
            assert "xgboost" in model.framework
            assert type(one).__name__ in model.framework
            np.testing.assert_array_equal(model.predict(rows), fitted.predict_proba(rows))


def test_pickled_models_without_probabilities(tmp_path, table):
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import LinearSVC

    rows, labels = table
    for kind, dtype in ((LinearSVC(), np.int64), (LinearRegression(), np.float64)):
        fitted = kind.fit(rows, labels)
        with contextlib.closing(open_tabular(pickled(tmp_path, fitted), OWN)) as model:
            answers = model.predict(rows)
        assert answers.dtype == dtype
        np.testing.assert_allclose(answers, fitted.predict(rows))


def test_pickled_models_of_other_labels(tmp_path, table):
    from sklearn.naive_bayes import GaussianNB

    rows, labels = table
    with pytest.raises(AssessmentError, match=r"class numbers 0, 1, 2.*got the classes \['1', '2'"):
        open_tabular(pickled(tmp_path, GaussianNB().fit(rows, labels + 1)), OWN)


def test_a_pickled_model_of_flat_images(tmp_path):
    from sklearn.linear_model import LogisticRegression

    flat = IMAGES.reshape(300, -1)
    fitted = LogisticRegression(max_iter=300).fit(flat, LABELS)
    with opened(pickled(tmp_path, fitted)) as model:
        assert model.offers is Access.PROBABILITIES
        np.testing.assert_allclose(model.predict(IMAGES), fitted.predict_proba(flat), atol=1e-5)
        assert any("(20,)" in note for note in model.notes)


SAVE = """
import json, sys
import numpy as np, tensorflow as tf
folder, images = sys.argv[1], np.load(sys.argv[1] + "/images.npy")
weights = tf.constant(np.random.default_rng(5).normal(size=(20, 3)).astype("float32"))

class Model(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(weights)
    def scores(self, x):
        return tf.nn.softmax(tf.matmul(tf.reshape(x, [-1, 20]), self.weights))

model = Model()
def save(name, function, *shape):
    spec = tf.TensorSpec(shape, tf.float32, name="image")
    tf.saved_model.save(
        model, folder + "/" + name, {"serving_default": tf.function(function, [spec])})
save("one", model.scores, None, 4, 5, 1)
save("several", lambda image: {"scores": model.scores(image),
     "classes": tf.argmax(model.scores(image), 1)}, 7, 4, 5, 1)
save("labels", lambda image: tf.argmax(model.scores(image), 1), None, 4, 5, 1)
np.save(folder + "/expected.npy", model.scores(images).numpy())
"""


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """SavedModel trees made by TensorFlow itself, and its own answers."""
    need_sandbox()
    need_tensorflow()
    folder = tmp_path_factory.mktemp("trees")
    np.save(folder / "images.npy", IMAGES)
    subprocess.run(
        [str(TENSORFLOW), "-c", SAVE, str(folder)], check=True, capture_output=True, timeout=400
    )
    return folder, np.load(folder / "expected.npy")


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "offers", "note"),
    [
        ("one", Access.PROBABILITIES, "architecture is not visible"),
        ("several", Access.PROBABILITIES, r"Of the outputs \['classes', 'scores'\], 'scores' was"),
        ("labels", Access.LABELS, "class numbers"),
    ],
)
def test_saved_model_trees(trees, monkeypatch, name, offers, note):
    if name == "several":  # as in a container whose /proc is masked
        monkeypatch.setattr("modelward.targets.sandbox.exchange.mounts_proc", lambda options: False)
    folder, expected = trees
    options = SandboxOptions(interpreters=(Path(sys.executable), TENSORFLOW))
    with opened(Exchange("saved_model", folder / name), options=options) as model:
        assert model.offers is offers
        answers = model.predict(IMAGES)
        assert "TensorFlow" in model.framework
    if offers is Access.LABELS:
        assert answers.argmax(1).tolist() == expected.argmax(1).tolist()
    else:
        np.testing.assert_allclose(answers, expected, atol=1e-5)
    assert any(re.search(note, text) for text in model.notes)


class Shape(tuple):
    """Stands for TensorFlow's shape of a known rank."""

    rank = 2


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"a": (None, 3), "b": (None, 3)}, r"got 'a' of \(None, 3\), 'b' of \(None, 3\); exp"),
        ({"a": (None, 2), "b": (None, 4)}, "one of several with 3 numbers per image"),
    ],
)
def test_a_saved_model_with_unclear_outputs(shapes, said):
    outputs = {
        name: SimpleNamespace(shape=Shape(shape), dtype=SimpleNamespace(is_floating=True))
        for name, shape in shapes.items()
    }
    with pytest.raises(ValueError, match=said):
        child._output(outputs, 3)


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_base_model_finds_the_interpreter_that_has_its_packages(tmp_path):
    need_tensorflow()
    exchange = base_model(
        tmp_path, answer="__import__('tensorflow').argmax(scores, 1)", compiled=False
    )
    source = tmp_path / "base_model.py"
    source.write_text("import tensorflow\n" + source.read_text())
    options = SandboxOptions(interpreters=(Path(sys.executable), TENSORFLOW))
    with opened(exchange, options=options) as model:
        assert model.predict(IMAGES).argmax(1).tolist() == LABELS.tolist()


def test_a_saved_model_without_tensorflow(tmp_path):
    options = SandboxOptions(interpreters=(Path(sys.executable),))
    with pytest.raises(AssessmentError, match=r"environment with TensorFlow .make tensorflow"):
        opened(Exchange("saved_model", tmp_path), options=options)
