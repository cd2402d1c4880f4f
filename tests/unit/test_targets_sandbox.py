"""Honest models in the sandbox give the answers that they give outside."""

import contextlib
import importlib.util
import pickle
import py_compile
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sandbox_need import TENSORFLOW, need_sandbox, need_tensorflow

from modelward.domain import Access, AssessmentError, SandboxOptions
from modelward.targets import Exchange, open_sandboxed
from modelward.targets.sandbox import child, choose_interpreters, open_tabular
from modelward.targets.sandbox.interpreters import inspect_interpreter, python_of_magic
from modelward.targets.sandbox.probe import mounts_proc
from modelward.targets.sandbox.process import SandboxProcess

OWN = SandboxOptions(interpreters=(Path(sys.executable),))
IMAGES = np.random.default_rng(1).random((300, 4, 5, 1), np.float32)
WEIGHTS = np.random.default_rng(2).normal(size=(20, 3))
WEIGHTS -= WEIGHTS.mean(0)  # so that every class occurs
LABELS = (IMAGES.reshape(300, -1) @ WEIGHTS).argmax(1)

SOURCE = """
import numpy as np
class BaseModel:
    def __init__(self, model_weight_path="{weights}"):
        self.weights = np.load(model_weight_path)
    def predict(self, X):
        print("models may print")
        scores = X.reshape(len(X), -1) @ self.weights
        return {answer}
"""


@pytest.fixture(autouse=True)
def _sandbox():
    need_sandbox()


def base_model(
    folder: Path, *, inside="", weights="w.npy", answer="scores.argmax(1)", compiled=True
):
    place = folder / inside
    place.mkdir(parents=True, exist_ok=True)
    np.save(folder / weights if "/" in weights else place / weights, WEIGHTS)
    source = place / "base_model.py"
    source.write_text(SOURCE.format(weights=weights, answer=answer))
    if not compiled:
        return Exchange("base_model", folder, inside)
    py_compile.compile(str(source), cfile=str(place / "base_model.pyc"), doraise=True)
    source.unlink()
    magic = (place / "base_model.pyc").read_bytes()[:4]
    return Exchange("base_model", folder, inside, magic)


def opened(exchange, **changes):
    given = {
        "input_shape": (4, 5, 1),
        "classes": 3,
        "normalize_data": True,
        "color_space": None,
        "options": OWN,
    }
    return contextlib.closing(open_sandboxed(exchange, **{**given, **changes}))


@pytest.mark.parametrize(
    "layout",
    [{}, {"inside": "deep/er"}, {"inside": "m", "weights": "m/w.npy"}, {"compiled": False}],
    ids=["top", "names-beside", "names-from-the-top", "source"],
)
def test_a_base_model_gives_labels(tmp_path, layout):
    with opened(base_model(tmp_path, **layout)) as model:
        assert model.offers is Access.LABELS
        answers = model.predict(IMAGES)
        assert answers.argmax(1).tolist() == LABELS.tolist()
        assert set(np.unique(answers)) == {0.0, 1.0}
        profile = model.profile("Original", repeats=3)
    assert profile.parameters is None
    assert profile.layers == ()
    assert profile.hidden == "not visible: runs in the sandbox"
    assert profile.inference_ms > 0
    assert any("class numbers" in note for note in model.notes)
    with pytest.raises((AssessmentError, ValueError, OSError)):
        model.predict(IMAGES)


def test_a_base_model_may_give_probabilities(tmp_path):
    exchange = base_model(tmp_path, answer="np.exp(scores) / np.exp(scores).sum(1)[:, None]")
    with opened(exchange) as model:
        assert model.offers is Access.PROBABILITIES
        scores = np.exp(IMAGES.reshape(300, -1).astype(np.float64) @ WEIGHTS)
        expected = scores / scores.sum(1, keepdims=True)
        np.testing.assert_allclose(model.predict(IMAGES), expected, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_pixels_arrive_in_the_range_that_was_asked_for(tmp_path, normalize):
    exchange = base_model(tmp_path, answer="(X.reshape(len(X), -1).max(1) > 1).astype(int)")
    with opened(exchange, normalize_data=normalize) as model:
        labels = model.predict(IMAGES).argmax(1)
    assert set(labels) == ({0} if normalize else {1})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("scores.argmax(1) + 1", "class numbers from 0 to 2, .*got 3; correct number_of_classes"),
        ("scores.argmax(1)[1:]", r"8 rows of 1 to 10000 numbers; its answer has the shape \(7,\)"),
        ("[str(n) for n in scores.argmax(1)]", "TypeError: expected numbers as predictions"),
        ("scores[:, :2]", "expected 3 outputs, as number_of_classes says; got 2"),
        ("scores * np.nan", "NaN or infinity for 8 of 8 images"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("exit(3)", "SystemExit: 3"),
        ("__import__('os')._exit(3)", "ended in the sandbox: its process ended with code 3"),
        ("__import__('nowhere')", "packages in the interpreter .*No module named 'nowhere'"),
    ],
)
def test_answers_that_do_not_fit(tmp_path, answer, message):
    with pytest.raises(AssessmentError, match=message):
        open_sandboxed(
            base_model(tmp_path, answer=answer),
            input_shape=(4, 5, 1),
            classes=3,
            normalize_data=True,
            color_space=None,
            options=OWN,
        )


@pytest.mark.parametrize(
    ("magic", "said"),
    [
        (3413, r"Python 3\.8 with numpy, because that compiled base_model.pyc"),
        (62211, r"Python 2\.x with numpy"),
        (3999, r"an unknown Python version \(magic number 3999\)"),
    ],
)
def test_bytecode_of_another_python(magic, said):
    raw = magic.to_bytes(2, "little") + b"\r\n"
    found = f"found Python {sys.version.split()[0]} at "
    with pytest.raises(AssessmentError, match=rf"{said}.*sandbox.interpreters.*{found}"):
        choose_interpreters("base_model", raw, OWN)


def test_the_magic_number_of_this_python():
    ours = importlib.util.MAGIC_NUMBER
    assert python_of_magic(ours) == f"Python {sys.version_info.major}.{sys.version_info.minor}"
    assert choose_interpreters("base_model", ours, OWN)[0].magic == ours
    assert "no compiled Python file" in python_of_magic(b"PK\x03\x04")


def other_pythons() -> list[Path]:
    places = Path.home() / ".pyenv" / "versions"
    found = [places / name / "bin" / "python" for name in sorted(map(str, places.glob("3.*")))]
    return [one for one in found if int(one.parts[-3].split(".")[1]) >= 8 and one.exists()]


@pytest.mark.parametrize("version", ["3.8", "3.10", "3.12", "3.13"])
def test_the_program_inside_runs_under_other_pythons(version):
    fitting = [one for one in other_pythons() if one.parts[-3].startswith(version + ".")]
    if not fitting:
        pytest.skip(f"needs Python {version} under ~/.pyenv")
    interpreter = inspect_interpreter(fitting[0])
    assert interpreter.version.startswith(version + ".")
    assert python_of_magic(interpreter.magic) == f"Python {version}"
    with SandboxProcess(
        interpreter, None, {"kind": "probe"}, OWN, proc=mounts_proc(OWN)
    ) as process:
        assert process.hello["uid"] == 65534
    if "numpy" not in interpreter.modules:
        options = SandboxOptions(interpreters=(fitting[0],))
        with pytest.raises(AssessmentError, match=r"Python 3\.\d+\.\d+ at .*\(without numpy\)"):
            choose_interpreters("base_model", interpreter.magic, options)


def test_an_interpreter_that_is_missing_is_named(tmp_path):
    options = SandboxOptions(interpreters=(tmp_path / "python",))
    with pytest.raises(AssessmentError, match=r"expected a Python interpreter at .*python; got No"):
        choose_interpreters("pickle", b"", options)


def test_a_private_folder_is_never_bound():
    options = OWN.model_copy(update={"private": (Path(np.__file__).parent,)})
    with pytest.raises(AssessmentError, match="outside of what models may see"):
        SandboxProcess(inspect_interpreter(Path(sys.executable)), None, {"kind": "probe"}, options)


def test_without_a_proc_of_its_own():
    own = inspect_interpreter(Path(sys.executable))
    with SandboxProcess(own, None, {"kind": "probe"}, OWN, proc=False) as process:
        assert process.hello["processes"] == []
        assert process.hello["interfaces"] == ["lo"]


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
        monkeypatch.setattr("modelward.targets.sandbox.model.mounts_proc", lambda options: False)
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


def test_a_sandbox_outlives_copies_and_ends_with_the_last(tmp_path):
    import gc

    model = open_sandboxed(
        base_model(tmp_path), input_shape=(4, 5, 1), classes=3, normalize_data=True,
        color_space=None, options=OWN,
    )  # fmt: skip
    other = model.with_color_space("gray")
    process = model._process._process
    del model
    gc.collect()
    assert other.predict(IMAGES[:3]).shape == (3, 3)
    del other
    gc.collect()
    assert process.wait(10) != 0
