"""An attack that is interrupted after any note ends as one that never was."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from modelward.attacks import ExtractionPlan, ExtractionResult, Surrogate, extract
from modelward.attacks.extraction.notebook import arrays_of, load_arrays
from modelward.attacks.extraction.surrogate import body_spec
from modelward.domain import Access, QueryBudgetExceededError
from modelward.nets import build_torch
from modelward.targets import BudgetedTarget

SHAPE = (8, 8, 1)


class Stopped(BaseException):
    """Stands for the death of the process."""


class Book:
    """A notebook in memory; dies after its n-th note."""

    def __init__(self, last: int | None = None) -> None:
        self.notes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.last = last

    def read(self) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        return self.notes[-1] if self.notes else None

    def due(self) -> bool:
        return True

    def write(self, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.notes.append((dict(values), {key: value.copy() for key, value in arrays.items()}))
        if len(self.notes) == self.last:
            raise Stopped


def _target() -> BudgetedTarget:
    weights = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)

    def predict(images: np.ndarray) -> np.ndarray:
        logits = (images.reshape(len(images), -1) - 0.5) @ weights
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float32)

    return BudgetedTarget(
        predict, input_shape=SHAPE, classes=3, access=Access.PROBABILITIES, budget=20
    )


def _plan(seed: int = 3) -> ExtractionPlan:
    return ExtractionPlan(
        input_shape=SHAPE, classes=3, access=Access.PROBABILITIES, budget=20, seed=seed
    )


def _nothing(_share: float, _text: str) -> None:
    pass


def _assert_same(one: ExtractionResult, other: ExtractionResult) -> None:
    for name in ("queries", "answers", "source_of"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("spent", "source_counts", "class_counts"):
        assert getattr(one, name) == getattr(other, name)
    images = np.random.default_rng(1).random((20, *SHAPE), np.float32)
    assert len(one.checkpoints) == len(other.checkpoints) == 2
    for (mark, first), (same, second) in zip(one.checkpoints, other.checkpoints, strict=True):
        assert mark == same
        np.testing.assert_array_equal(first.predict(images), second.predict(images))
    np.testing.assert_array_equal(one.surrogate.predict(images), other.surrogate.predict(images))
    np.testing.assert_array_equal(one.generate("mixup", 5, 1), other.generate("mixup", 5, 1))


@pytest.fixture(scope="module")
def undisturbed() -> ExtractionResult:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("modelward.attacks.extraction.attack._PORTION", 5)
        return extract(_target(), _plan(), _nothing)


# portions of five queries, marks at 10 and 20: notes after 5, 10, 15 and 20
@pytest.mark.parametrize(("last", "spent"), [(1, 5), (2, 10), (3, 15), (4, 20)])
def test_same_result_after_an_interruption(
    undisturbed: ExtractionResult, monkeypatch: pytest.MonkeyPatch, last: int, spent: int
) -> None:
    monkeypatch.setattr("modelward.attacks.extraction.attack._PORTION", 5)
    book = Book(last)
    with pytest.raises(Stopped):
        extract(_target(), _plan(), _nothing, book)
    assert book.notes[-1][0]["spent"] == spent
    asked = _target()
    result = extract(asked, _plan(), _nothing, book)
    _assert_same(undisturbed, result)
    # what the earlier process asked counts
    assert (asked.spent, asked.remaining) == (20, 0)


def test_notes_of_another_attack_are_ignored(undisturbed: ExtractionResult) -> None:
    book = Book(1)
    with pytest.raises(Stopped):
        extract(_target(), _plan(seed=4), _nothing, book)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("modelward.attacks.extraction.attack._PORTION", 5)
        _assert_same(undisturbed, extract(_target(), _plan(), _nothing, Book()))
        book.last = None
        _assert_same(undisturbed, extract(_target(), _plan(), _nothing, book))


@pytest.mark.parametrize("missing", ["seen", "body/0.weight", "mark10/0.weight"])
def test_notes_that_do_not_fit_are_ignored(
    undisturbed: ExtractionResult, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr("modelward.attacks.extraction.attack._PORTION", 5)
    book = Book(2)
    with pytest.raises(Stopped):
        extract(_target(), _plan(), _nothing, book)
    del book.notes[-1][1][missing]
    _assert_same(undisturbed, extract(_target(), _plan(), _nothing, book))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 3), (96, 96, 3)])
def test_a_frozen_surrogate_comes_back_from_its_arrays(shape: tuple[int, int, int]) -> None:
    """Also where images are averaged down before the part that is trained."""
    spec = body_spec(shape, 4)
    frozen = Surrogate.of_body(shape, 4, build_torch(spec, 1))
    other = build_torch(spec, 2)
    load_arrays(other, arrays_of(frozen.body, "mark5/") | {"unrelated": np.zeros(1)}, "mark5/")
    images = np.random.default_rng(0).random((3, *shape), np.float32)
    np.testing.assert_array_equal(
        Surrogate.of_body(shape, 4, other.eval()).predict(images), frozen.predict(images)
    )


def test_more_cannot_be_charged_than_the_budget_holds() -> None:
    target = _target()
    target.charge(15)
    with pytest.raises(QueryBudgetExceededError, match="6 images were asked about before, 5 of 20"):
        target.charge(6)
    assert target.remaining == 5
