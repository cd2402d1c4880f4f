"""predict.py: pixel ranges, shapes, every kind of model it may be given."""

import numpy as np
import pytest

from modelward.defense.runtime import AISDefenseModel


class Recorder:
    """Says attack where the mean of the scaled image is above one half, and keeps its input."""

    def __init__(self):
        self.seen = []

    def predict(self, x):
        self.seen.append(x)
        mean = x.mean(axis=(1, 2, 3))
        return np.stack([1 - mean, mean], 1)


def test_each_row_is_scaled_by_its_own_range():
    model = Recorder()
    rows = np.zeros((3, 2, 2, 1))
    rows[0] = 1.0  # normalised white
    rows[1] = 255.0  # raw white
    rows[2] = 51.0  # raw, 0.2 of white
    label, probability = AISDefenseModel(model).predict(rows)
    np.testing.assert_allclose(model.seen[0][:, 0, 0, 0], [1.0, 1.0, 0.2], rtol=1e-6)
    assert model.seen[0].dtype == np.float32
    assert label.tolist() == ["attack", "attack", "not-attack"]
    np.testing.assert_allclose(probability, [1.0, 1.0, 0.8], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_integers_are_raw_even_where_no_value_is_above_one(dtype):
    model = Recorder()
    AISDefenseModel(model).predict(np.ones((1, 2, 2, 1), dtype))
    np.testing.assert_allclose(model.seen[0], 1 / 255, rtol=1e-6)


def test_booleans_and_normalised_floats_are_not_divided():
    model = Recorder()
    AISDefenseModel(model).predict(np.ones((1, 2, 2, 1), bool))
    AISDefenseModel(model).predict(np.full((1, 2, 2, 1), 0.25, np.float64))
    assert model.seen[0].max() == 1
    assert model.seen[1].max() == 0.25


def test_nested_lists_and_no_rows():
    defense = AISDefenseModel(Recorder())
    label, probability = defense.predict([[[[255], [255]]], [[[0], [0]]]])
    assert label.tolist() == ["attack", "not-attack"]
    label, probability = defense.predict(np.zeros((0, 2, 2, 1)))
    assert label.shape == probability.shape == (0,)


def test_the_range_rule_does_not_depend_on_the_chunk(monkeypatch):
    monkeypatch.setattr("modelward.defense.runtime.ROWS_AT_A_TIME", 2)
    model = Recorder()
    rows = np.linspace(0, 1, 5)[:, None, None, None] * np.ones((5, 2, 2, 1))
    _, probability = AISDefenseModel(model).predict(rows)
    assert [len(part) for part in model.seen] == [2, 2, 1]
    np.testing.assert_allclose(probability, [1, 0.75, 0.5, 0.75, 1])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 2, 1)), r"single image pass x\[None\]"),
        (np.zeros((4, 4)), "expected images of shape"),
        (np.zeros((1, 3, 3, 1)), r"expected images of shape \(n, 2, 2, 1\), got \(1, 3, 3, 1\)"),
        ([[[[1.0]]], [[[1.0], [2.0]]]], "expected images of one size"),
        (np.full((1, 2, 2, 1), "a"), "expected numbers as pixels"),
        (np.full((2, 2, 2, 1), np.nan), "image 0: expected pixels"),
        (np.full((1, 2, 2, 1), -0.5), "image 0: expected pixels"),
        (np.full((1, 2, 2, 1), 300.0), "image 0: expected pixels"),
    ],
)
def test_wrong_input_is_named(x, message):
    model = Recorder()
    model.input_shape = (None, 2, 2, 1)
    with pytest.raises(ValueError, match=message):
        AISDefenseModel(model).predict(x)


def test_a_bare_callable_and_a_quiet_keras_like_model():
    class Keras:
        def predict(self, x, batch_size=None, verbose="auto"):
            assert verbose == 0
            return np.tile([0.1, 0.9], (len(x), 1))

    for model in (Keras(), lambda x: np.tile([0.1, 0.9], (len(x), 1))):
        label, _ = AISDefenseModel(model).predict(np.zeros((2, 2, 2, 1)))
        assert label.tolist() == ["attack", "attack"]


def test_a_model_with_another_number_of_outputs_is_refused():
    defense = AISDefenseModel(lambda x: np.zeros((len(x), 10)))
    with pytest.raises(ValueError, match=r"expected answers of shape \(1, 2\), got \(1, 10\)"):
        defense.predict(np.zeros((1, 2, 2, 1)))


def test_a_path_instead_of_a_model_is_refused():
    with pytest.raises(TypeError, match="load it with"):
        AISDefenseModel("defense_model.h5")


def test_half_a_pair_of_credentials_is_refused(monkeypatch):
    monkeypatch.delenv("MODELWARD_SPLUNK_AUTHORIZATION", raising=False)
    with pytest.raises(ValueError, match="authorization: expected together with splunk_url"):
        AISDefenseModel(lambda x: x, splunk_url="https://splunk.example")
