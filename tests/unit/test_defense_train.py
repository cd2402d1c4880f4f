"""Threshold, splits, encodings and outliers: hand-computed and on tiny data."""

import numpy as np
import pytest
import torch

from modelward.defense import DefenseInputs, encodings
from modelward.defense.evaluate import rate_at_fpr, roc_points
from modelward.defense.inputs import generate_unsent, split_inputs
from modelward.defense.network import MOST_PARAMETERS, core_spec, full_spec
from modelward.defense.outliers import OUTLIER_KINDS, make_outliers
from modelward.defense.train import allowed_false_positives, calibrate, fold_threshold, scores
from modelward.domain import AssessmentError
from modelward.nets import build_torch, count_parameters


def make_inputs(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "benign": rng.integers(0, 256, (50, 4, 4, 1)).astype(np.uint8),
        "queries": rng.integers(0, 256, (100, 4, 4, 1)).astype(np.uint8),
        "source_of": np.repeat([0, 1], 50),
        "sources": ("a", "b"),
        "generate": lambda name, n, seed: np.zeros((n, 4, 4, 1), np.uint8),
        "model_predict": lambda x: np.zeros((len(x), 3), np.float32),
        "model_classes": 3,
        "seed": 7,
    }
    return DefenseInputs(**{**fields, **changes})


class TestThreshold:
    def test_allowed_false_positives_by_hand(self):
        # 230 images at 1 %: P(0 false) = 0.99**230 = 0.0991, so none is allowed at 90 %;
        # 229 give 0.1001 > 0.1: too few to support the rate at all.
        assert allowed_false_positives(230, 0.01, 0.9) == 0
        assert allowed_false_positives(229, 0.01, 0.9) == -1
        # P(at most 1 of 388) = 0.99**388 + 388 * 0.01 * 0.99**387 = 0.0996
        assert allowed_false_positives(388, 0.01, 0.9) == 1
        assert allowed_false_positives(387, 0.01, 0.9) == 0

    def test_the_strictest_encoding_sets_the_threshold(self):
        # 168 images allow one false positive: P(at most 1 at a rate of 1 %) = 0.4984, half.
        low = np.arange(168.0)
        assert calibrate([low], 0.01) == 166  # exactly one score lies above
        assert calibrate([low, low + 5], 0.01) == 171
        assert calibrate([low[1:]], 0.01) == 167  # one image less allows none

    def test_too_few_images_put_the_threshold_above_all(self):
        values = np.array([0.0, 4.0])
        assert calibrate([values], 0.01) == 4 + 0.25 * 2

    def test_folding_moves_the_decision_and_nothing_else(self):
        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))
        with torch.no_grad():
            module[1].weight.copy_(torch.tensor([[0.0], [10.0]]))
            module[1].bias.copy_(torch.tensor([1.0, 0.0]))
        images = np.array([0, 51, 102, 255], np.uint8).reshape(4, 1, 1, 1)
        # By hand: 10 * pixel / 255 - 1
        np.testing.assert_allclose(scores(module, images), [-1, 1, 3, 9], atol=1e-5)
        fold_threshold(module, 2.0)
        np.testing.assert_allclose(scores(module, images), [-3, -1, 1, 7], atol=1e-5)
        np.testing.assert_allclose(module[1].bias.detach(), [2, -1])


class TestRates:
    def test_rate_at_a_false_positive_rate(self):
        benign = np.arange(1000.0)
        attack = np.array([985.0, 989.0, 990.0, 2000.0])
        # Ten benign scores (990 ... 999) may lie above: the threshold is 989, strictly.
        measured = rate_at_fpr(benign, attack, 0.01)
        assert (measured.value, measured.n) == (0.5, 4)

    def test_too_few_benign_images_give_none_with_the_number_needed(self):
        measured = rate_at_fpr(np.arange(999.0), np.ones(5), 0.01)
        assert measured.value is None
        assert "needs at least 1,000 held-out benign images, there were 999" in measured.reason
        assert rate_at_fpr(np.arange(9999.0), np.ones(5), 0.001).value is None
        assert rate_at_fpr(np.arange(10000.0), np.ones(5), 0.001).value == 0

    def test_roc_by_hand(self):
        # Thresholds 3 (attack), 2 (benign), 1 (attack), 0 (benign).
        points = roc_points(np.array([0.0, 2.0]), np.array([1.0, 3.0]))
        assert points == ((0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1))

    def test_roc_is_thinned_and_keeps_its_ends(self):
        rng = np.random.default_rng(0)
        points = roc_points(rng.normal(0, 1, 5000), rng.normal(1, 1, 5000))
        assert 100 < len(points) <= 200
        assert points[0] == (0, 0)
        assert points[-1] == (1, 1)
        assert points == tuple(sorted(points))


class TestSplit:
    def test_parts_are_disjoint_and_depend_on_the_seed(self):
        split = split_inputs(make_inputs(), 1000)
        parts = (split.benign_train, split.benign_calibration, split.benign_test)
        assert [len(p) for p in parts] == [30, 10, 10]
        keys = [image.tobytes() for part in parts for image in part]
        assert len(set(keys)) == 50
        again = split_inputs(make_inputs(), 1000)
        other = split_inputs(make_inputs(seed=8), 1000)
        assert np.array_equal(split.benign_test, again.benign_test)
        assert not np.array_equal(split.benign_test, other.benign_test)
        assert np.bincount(split.attack_test_source).tolist() == [10, 10]

    def test_repeated_images_are_not_measured_on_what_was_learnt(self):
        inputs = make_inputs()
        benign = np.concatenate([inputs.benign, inputs.benign])
        queries = np.concatenate([inputs.queries[:50], inputs.queries[:40], inputs.benign[:10]])
        split = split_inputs(make_inputs(benign=benign, queries=queries), 1000)
        parts = (split.benign_train, split.benign_calibration, split.benign_test)
        assert sum(len(p) for p in parts) == 50
        learnt = {image.tobytes() for image in split.attack_train}
        known = {image.tobytes() for image in inputs.benign}
        assert not {image.tobytes() for image in split.attack_test} & (learnt | known)
        assert not learnt & known
        assert "50 repeated benign images" in split.notes[0]
        assert "10 queries equal to a benign image" in split.notes[1]

    def test_a_source_that_refuses_is_skipped(self):
        def generate(name, n, seed):
            if name == "b":
                raise ValueError("needs parents")
            return np.zeros((n, 4, 4, 1), np.uint8)

        made = generate_unsent(make_inputs(generate=generate), 10)
        assert {source: len(images) for source, images in made.items()} == {0: 5}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"benign": np.zeros((3, 4, 4, 1), np.uint8)}, "at least 10 benign images, got 3"),
            ({"benign": np.zeros((50, 4, 4, 1))}, "uint8, got"),
            ({"benign": np.zeros((50, 5, 4, 1), np.uint8)}, "must have the model's input shape"),
            ({"source_of": np.full(100, 2)}, "one source index below 2 per query"),
        ],
    )
    def test_inputs_that_do_not_fit_are_named(self, changes, message):
        with pytest.raises(AssessmentError, match=message):
            make_inputs(**changes)

    def test_images_that_are_all_the_same_are_too_few(self):
        inputs = make_inputs(benign=np.zeros((50, 4, 4, 1), np.uint8))
        with pytest.raises(AssessmentError, match="different benign images, got 1"):
            split_inputs(inputs, 100)


class TestEncodings:
    def test_lossless_changes_nothing_and_jpeg_does(self):
        images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
        assert np.array_equal(encodings.apply(images, encodings.LOSSLESS), images)
        stored = encodings.apply(images, encodings.Encoding(75))
        assert stored.shape == images.shape
        assert not np.array_equal(stored, images)

    def test_reversed_channels(self):
        images = np.array([10, 20, 30], np.uint8).reshape(1, 1, 1, 3)
        turned = encodings.apply(images, encodings.Encoding(reverse_channels=True))
        assert turned.ravel().tolist() == [30, 20, 10]

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_any_channel_count_survives_jpeg(self, channels):
        images = np.full((1, 8, 8, channels), 128, np.uint8)
        stored = encodings.apply(images, encodings.Encoding(100))
        assert np.abs(stored.astype(int) - 128).max() <= 1

    def test_draws_cover_both_kinds_and_the_whole_quality_range(self):
        drawn = encodings.random_encodings(np.random.default_rng(0), 3000, 1)
        quality = [e.quality for e in drawn if e.quality is not None]
        assert 0.25 < 1 - len(quality) / 3000 < 0.35
        assert (min(quality), max(quality)) == (75, 100)
        assert np.median(quality) < 84  # evenly drawn, it were 87.5
        assert not any(e.reverse_channels for e in drawn)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (13, 40, 3), (32, 32, 3)])
def test_outliers_keep_shape_and_come_from_every_kind(shape):
    benign = np.random.default_rng(0).integers(0, 256, (5, *shape)).astype(np.uint8)
    made = make_outliers(np.random.default_rng(1), benign, 2 * len(OUTLIER_KINDS) + 1)
    assert made.shape == (2 * len(OUTLIER_KINDS) + 1, *shape)
    assert made.dtype == np.uint8
    assert len({image.tobytes() for image in made}) > len(OUTLIER_KINDS)


@pytest.mark.parametrize(
    "shape",
    [(4, 4, 1), (8, 8, 1), (28, 28, 1), (32, 32, 3), (48, 48, 3), (49, 49, 3), (224, 224, 3),
     (20, 500, 1), (1, 1, 1), (1024, 768, 4)],
)  # fmt: skip
def test_every_image_size_gets_a_network_within_the_contract(shape):
    spec = full_spec(shape)
    assert spec.input_shape == shape
    assert spec.classes == 2
    assert count_parameters(build_torch(core_spec(shape), 0)) <= MOST_PARAMETERS
    assert max(core_spec(shape).input_shape[:2]) <= 48
