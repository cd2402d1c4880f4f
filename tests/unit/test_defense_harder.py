"""Fresh unsent queries go to the sources that a short training misses, and nowhere else."""

import numpy as np
from defense_samples import digits, digits_inputs, generate

from modelward.defense import DefenseInputs
from modelward.defense.detector import _harder
from modelward.defense.inputs import generate_unsent, split_inputs
from modelward.defense.train import Effort, build_pool, extend_pool


def make_inputs(asked: list[tuple[str, int]]) -> DefenseInputs:
    """Digits against noise and against digits that the upload does not hold."""
    images = digits()[np.random.default_rng(0).permutation(1797)]

    def make(source: str, count: int, seed: int) -> np.ndarray:
        asked.append((source, count))
        if source == "noise":
            return generate("noise", count, seed)
        return images[1000 + np.random.default_rng(seed).integers(0, 797, count)]

    return DefenseInputs(
        benign=images[:1000],
        queries=np.concatenate([generate("noise", 300, 1), images[1000:1300]]),
        source_of=np.repeat([0, 1], 300),
        sources=("noise", "lookalikes"),
        generate=make,
        model_predict=lambda x: np.zeros((len(x), 10), np.float32),
        model_classes=10,
        seed=3,
    )


def harder(inputs: DefenseInputs, most: int):
    split = split_inputs(inputs, 1000)
    unsent = generate_unsent(inputs, 300)
    pool = build_pool(split, unsent, inputs.seed, 1000)
    return pool, _harder(inputs, split, pool, unsent, effort=Effort(steps=120), most=most)


def test_what_is_missed_is_made_again():
    asked: list[tuple[str, int]] = []
    _, extra = harder(make_inputs(asked), 400)
    assert set(extra) == {1}
    assert asked[-1] == ("lookalikes", 400)
    assert extra[1].shape == (400, 8, 8, 1)


def test_no_more_than_were_sent():
    asked: list[tuple[str, int]] = []
    _, extra = harder(make_inputs(asked), 5000)
    assert len(extra[1]) == 600


def test_a_source_that_is_always_found_gets_nothing():
    _, extra = harder(digits_inputs(queries=300), 400)
    assert len(extra.get(1, ())) == 0  # noise
    assert 3 not in extra  # one that refuses to make unsent queries


def test_the_pool_grows_by_what_was_made():
    inputs = make_inputs([])
    pool, extra = harder(inputs, 50)
    whole = extend_pool(pool, extra, inputs.shape, inputs.seed)
    assert len(whole.images) == len(whole.source) == len(pool.source) + 50
    assert (whole.source[-50:] == 1).all()
    assert (whole.source[:-50] == pool.source).all()
    again = extend_pool(pool, extra, inputs.shape, inputs.seed)
    assert (again.images == whole.images).all()
