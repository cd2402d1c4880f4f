"""Keras models as targets."""

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

from modelward.domain import AssessmentError
from modelward.targets import KerasModel, load_keras

L = keras.layers
GRAY, COLOR = (4, 3, 1), (4, 3, 3)


def saved(path: Path, *layers: Any) -> Path:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(list(layers))
    model.save(path)
    return path


def load(
    path: Path,
    shape: tuple[int, int, int] = GRAY,
    classes: int = 3,
    *,
    normalize_data: bool = True,
    color_space: str | None = None,
) -> KerasModel:
    return load_keras(
        path,
        input_shape=shape,
        classes=classes,
        normalize_data=normalize_data,
        color_space=color_space,
    )


def images(shape: tuple[int, int, int] = GRAY, n: int = 7) -> np.ndarray:
    return np.random.default_rng(5).random((n, *shape), np.float32)


def set_weights(path: Path, *weights: np.ndarray, **compiled: Any) -> Path:
    model = keras.models.load_model(path, compile=False)
    model.layers[-1].set_weights(list(weights))
    model.save(path)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_model_answers_as_keras_does(tmp_path: Path, suffix: str):
    path = saved(
        tmp_path / f"m{suffix}", keras.Input(GRAY), L.Conv2D(4, 2, activation="relu"),
        L.BatchNormalization(), L.MaxPooling2D(2, padding="same"), L.Dropout(0.5), L.Flatten(),
        L.Dense(3, activation="softmax", kernel_initializer="he_normal", kernel_regularizer="l2"),
    )  # fmt: skip
    expected = keras.models.load_model(path).predict(images(), verbose=0)
    answers = load(path).predict(images())
    assert answers.dtype == np.float32
    assert np.abs(answers - expected).max() < 1e-6


def test_content_decides_not_the_name(tmp_path: Path):
    layers = (keras.Input(GRAY), L.Flatten(), L.Dense(3, activation="softmax"))
    hdf5 = saved(tmp_path / "a.h5", *layers).rename(tmp_path / "really_hdf5.keras")
    zipped = saved(tmp_path / "b.keras", *layers).rename(tmp_path / "really_zip.h5")
    assert np.allclose(load(hdf5).predict(images()), load(zipped).predict(images()), atol=1e-6)


def test_batches_are_stitched_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = load(saved(tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(3)))
    whole = model.predict(images(n=25))
    monkeypatch.setattr("modelward.targets.adapt.BATCH_VALUES", 12 * 4)
    assert np.abs(model.predict(images(n=25)) - whole).max() < 1e-6
    assert model.predict(images(n=0)).shape == (0, 3)


def pick(row: int, column: int, channel: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Dense weights whose only logit is one value of the image, and a logit of 0."""
    kernel = np.zeros((*shape, 2), np.float32)
    kernel[row, column, channel, 1] = 1
    return kernel.reshape(-1, 2)


def test_logits_become_probabilities(tmp_path: Path):
    path = saved(tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(2))
    set_weights(path, pick(2, 1, 0, GRAY) * 10, np.zeros(2, np.float32))
    batch = images()
    expected = 1 / (1 + np.exp(-10 * batch[:, 2, 1, 0]))  # softmax of (0, z) is sigmoid(z)
    assert np.allclose(load(path, classes=2).predict(batch)[:, 1], expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "linear"])
def test_one_output_for_two_classes(tmp_path: Path, activation: str):
    path = saved(
        tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(1, activation=activation)
    )
    set_weights(path, pick(2, 1, 0, GRAY)[:, 1:] * -9, np.full(1, 2, np.float32))
    batch = images()
    expected = 1 / (1 + np.exp(9 * batch[:, 2, 1, 0] - 2))
    answers = load(path, classes=2).predict(batch)
    assert np.allclose(answers[:, 1], expected, atol=1e-6)
    assert np.allclose(answers.sum(axis=1), 1)


def test_a_sigmoid_per_class_is_normalised(tmp_path: Path):
    path = saved(
        tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(3, activation="sigmoid")
    )
    raw = keras.models.load_model(path).predict(images(), verbose=0)
    model = load(path)
    expected = raw / raw.sum(axis=1, keepdims=True)
    assert np.allclose(model.predict(images()), expected, atol=1e-6)
    assert "sigmoids" in model.notes[0]


def test_pixels_are_scaled_to_what_the_model_takes(tmp_path: Path):
    path = saved(tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(2))
    set_weights(path, pick(0, 0, 0, GRAY) / 255, np.zeros(2, np.float32))
    batch = images()
    raw = 1 / (1 + np.exp(-batch[:, 0, 0, 0]))
    scaled = load(path, classes=2, normalize_data=False).predict(batch)[:, 1]
    assert np.allclose(scaled, raw, atol=1e-6)
    assert not np.allclose(load(path, classes=2).predict(batch)[:, 1], raw, atol=1e-2)


def test_color_order(tmp_path: Path):
    path = saved(tmp_path / "m.h5", keras.Input(COLOR), L.Flatten(), L.Dense(2))
    set_weights(path, pick(1, 2, 0, COLOR), np.zeros(2, np.float32))  # looks at channel 0
    batch = images(COLOR)
    model = load(path, COLOR, 2)
    first = 1 / (1 + np.exp(-batch[:, 1, 2, 0]))
    last = 1 / (1 + np.exp(-batch[:, 1, 2, 2]))
    assert np.allclose(model.predict(batch)[:, 1], first, atol=1e-6)
    swapped = model.with_color_space("bgr")
    assert np.allclose(swapped.predict(batch)[:, 1], last, atol=1e-6)
    assert np.allclose(model.predict(batch)[:, 1], first, atol=1e-6)  # the first is as it was
    assert np.allclose(load(path, COLOR, 2, color_space="bgr").predict(batch)[:, 1], last)
    with pytest.raises(AssessmentError, match="expected rgb, bgr or gray; got 'hsv'"):
        model.with_color_space("hsv")


@pytest.mark.parametrize(
    "taken", [(None, None, 1), (4, 3), (12,), (1, 4, 3), (4, 3, None)], ids=str
)
def test_inputs_that_can_be_arranged(tmp_path: Path, taken: tuple[int | None, ...]):
    flat = [L.GlobalMaxPooling2D()] if None in taken else [L.Flatten()]
    dense = [] if taken == (4, 3, None) else [L.Dense(3, activation="softmax")]
    if taken == (4, 3, None):  # weights need known channels
        dense = [L.Reshape((1,)), L.Dense(3, activation="softmax")]
    model = load(saved(tmp_path / "m.keras", keras.Input(taken), *flat, *dense))
    answers = model.predict(images())
    assert answers.shape == (7, 3)
    assert np.ptp(answers, axis=0).max() > 1e-3  # it looks at the image
    adapted = taken in ((4, 3), (12,), (1, 4, 3))
    assert bool(model.notes) == adapted
    assert (model.profile("x", repeats=1).layers[0].name == "adapter") == adapted


def test_a_flat_model_sees_rows_in_order(tmp_path: Path):
    path = saved(tmp_path / "m.h5", keras.Input((12,)), L.Dense(2))
    set_weights(path, pick(2, 1, 0, GRAY) * 5, np.zeros(2, np.float32))
    expected = 1 / (1 + np.exp(-5 * images()[:, 2, 1, 0]))
    assert np.allclose(load(path, classes=2).predict(images())[:, 1], expected, atol=1e-6)


@pytest.mark.parametrize("taken", [(5, 3, 1), (4, 3, 3), (13,), (4, 3, 1, 1), (3, 4)], ids=str)
def test_inputs_that_do_not_fit(tmp_path: Path, taken: tuple[int, ...]):
    path = saved(tmp_path / "m.keras", keras.Input(taken), L.Flatten(), L.Dense(3))
    shown = str(taken).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(AssessmentError, match=rf"input of \(4, 3, 1\).*the model takes {shown}"):
        load(path)


def test_class_count_against_the_payload(tmp_path: Path):
    path = saved(tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(4))
    with pytest.raises(
        AssessmentError, match="expected 3 outputs, as number_of_classes says; got 4"
    ):
        load(path)


def test_one_output_for_many_classes(tmp_path: Path):
    path = saved(tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(1))
    with pytest.raises(AssessmentError, match=r"expected 3 outputs.*got 1"):
        load(path)


def test_several_inputs_or_outputs(tmp_path: Path):
    one = keras.Input(GRAY)
    flat = L.Flatten()(one)
    keras.Model(one, [L.Dense(3)(flat), L.Dense(3)(flat)]).save(tmp_path / "o.keras")
    with pytest.raises(AssessmentError, match="expected one output; got several"):
        load(tmp_path / "o.keras")
    two = keras.Input(GRAY)
    keras.Model([one, two], L.Dense(3)(L.Flatten()(L.Add()([one, two])))).save(tmp_path / "i.keras")
    with pytest.raises(AssessmentError, match="one image input; got inputs of shape"):
        load(tmp_path / "i.keras")


def test_answers_that_are_no_numbers(tmp_path: Path):
    path = saved(tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(2))
    set_weights(path, pick(0, 0, 0, GRAY) * np.nan, np.zeros(2, np.float32))
    with pytest.raises(AssessmentError, match="got NaN or infinity for 8 of 8 images"):
        load(path, classes=2)


def test_images_of_another_shape(tmp_path: Path):
    model = load(saved(tmp_path / "m.h5", keras.Input(GRAY), L.Flatten(), L.Dense(3)))
    with pytest.raises(AssessmentError, match=r"images of \(n, 4, 3, 1\); got \(7, 4, 3, 3\)"):
        model.predict(images(COLOR))


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_branches_nested_models_and_operations(tmp_path: Path, name: str):
    inner = keras.Sequential([keras.Input(GRAY), L.Conv2D(2, 1), L.LeakyReLU()], name="inner")
    start = keras.Input(GRAY)
    x = L.Rescaling(2.0, offset=-1.0)(start)
    x = L.Concatenate()([inner(x), L.Conv2D(2, 1, activation="swish")(x)])
    if name == "m.keras":  # Keras does not read back arithmetic from .h5
        x = x * 0.5 + 1.0
    x = L.TimeDistributed(L.Dense(2))(x)
    x = L.Activation("gelu")(L.GlobalAveragePooling2D()(x))
    model = keras.Model(start, L.Softmax()(L.Dense(3)(x)))
    model.compile("adam", loss="categorical_crossentropy")
    model.save(tmp_path / name)
    expected = model.predict(images(), verbose=0)
    assert np.allclose(load(tmp_path / name).predict(images()), expected, atol=1e-6)


def custom_loss(truth: Any, answer: Any) -> Any:
    return keras.ops.mean((truth - answer) ** 2)


@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_a_custom_loss_does_not_matter(tmp_path: Path, name: str):
    model = keras.Sequential([keras.Input(GRAY), L.Flatten(), L.Dense(3, activation="softmax")])
    model.compile("sgd", loss=custom_loss)
    model.save(tmp_path / name)
    assert load(tmp_path / name).predict(images()).shape == (7, 3)


def test_profile(tmp_path: Path):
    path = saved(
        tmp_path / "m.h5", keras.Input(GRAY), L.Conv2D(4, 2), L.Flatten(),
        L.Dense(3, activation="softmax"),
    )  # fmt: skip
    profile = load(path).profile("original")
    assert (profile.name, profile.classes, profile.input_shape) == ("original", 3, GRAY)
    assert [layer.type for layer in profile.layers] == ["Conv2D", "Flatten", "Dense"]
    assert profile.layers[0].parameters == 2 * 2 * 1 * 4 + 4
    assert profile.layers[2].output_shape == "(None, 3)"
    assert profile.parameters == 20 + (3 * 2 * 4 * 3 + 3)
    assert profile.inference_ms is not None
    assert profile.inference_ms > 0


KERAS_2 = """
import sys, json, numpy as np, tf_keras as keras
L = keras.layers
folder = sys.argv[1]
start = keras.Input((4, 3, 1))
x = L.Conv2D(4, 2, activation="relu", kernel_regularizer="l2")(start)
x = L.BatchNormalization()(x)
x = L.concatenate([L.MaxPooling2D(2, padding="same")(x), L.AveragePooling2D(2, padding="same")(x)])
x = L.Dropout(.2)(L.Flatten()(x))
functional = keras.Model(start, L.Dense(3, activation="softmax")(x))
sequential = keras.Sequential([L.Conv2D(4, 2, activation="relu", input_shape=(4, 3, 1)),
    L.LeakyReLU(0.2), L.Flatten(), L.Dense(3, activation="softmax")])
batch = np.load(folder + "/batch.npy")
for name, model in (("functional", functional), ("sequential", sequential)):
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    np.save(f"{folder}/{name}.npy", model.predict(batch, verbose=0))
    model.save(f"{folder}/{name}.h5")
    model.save(f"{folder}/{name}.keras")
"""


@pytest.mark.tensorflow
def test_models_saved_by_keras_2(tmp_path: Path):
    root = Path(__file__).parents[2]
    python = root / ".venv-tf" / "bin" / "python"
    if not python.exists():
        if os.environ.get("MODELWARD_REQUIRE_ENVS") == "1":
            pytest.fail("the TensorFlow environment is missing; run make tensorflow")
        pytest.skip("no TensorFlow environment; make tensorflow creates it")
    np.save(tmp_path / "batch.npy", images())
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [python, "-c", KERAS_2, tmp_path],
        check=False, capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("functional.h5", "sequential.h5", "functional.keras", "sequential.keras"):
        expected = np.load((tmp_path / name).with_suffix(".npy"))
        answers = load(tmp_path / name).predict(images())
        assert np.abs(answers - expected).max() < 1e-5, name


def test_keras_archive_without_parts(tmp_path: Path):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({}))
    with pytest.raises(AssessmentError, match=r"a .keras file with config.json; got a zip"):
        load(path)
