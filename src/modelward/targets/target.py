"""A target as an attack sees it: questions, answers, and a budget that cannot be exceeded."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modelward.domain import (
    Access,
    AssessmentError,
    InvalidParameterError,
    QueryBudgetExceededError,
)

__all__ = ["BudgetedTarget"]

Answers = NDArray[np.int64] | NDArray[np.float32]


class BudgetedTarget:
    """Counts queries and refuses the one after the last.

    Args:
        predict: (n, height, width, channels) float32 in [0, 1] -> (n, classes) probabilities.
        input_shape: Height, width, channels of one image.
        classes: Number of classes.
        access: Whether ``query`` answers labels or probabilities.
        offers: What ``predict`` gives; of a model that gives labels only, 1 for the label.
        budget: Most images that ``query`` answers in the life of this object.

    Raises:
        InvalidParameterError: The budget is below 1, there are fewer than two classes, or the
            access is to more than the target offers.
    """

    def __init__(
        self,
        predict: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        access: Access = Access.LABELS,
        offers: Access = Access.PROBABILITIES,
        budget: int,
    ) -> None:
        if access is Access.PROBABILITIES and offers is Access.LABELS:
            raise InvalidParameterError(
                "access: expected labels, because the target offers labels only; got probabilities"
            )
        if budget < 1:
            raise InvalidParameterError(f"query budget: expected at least 1, got {budget}")
        if classes < 2:
            raise InvalidParameterError(f"classes: expected at least 2, got {classes}")
        self._predict = predict
        self._spent = 0
        self.input_shape = input_shape
        self.classes = classes
        self.access = access
        self.budget = budget

    @property
    def spent(self) -> int:
        """Images asked about so far; a call that failed counts too."""
        return self._spent

    @property
    def remaining(self) -> int:
        """Images that may still be asked about."""
        return self.budget - self._spent

    def charge(self, images: int) -> None:
        """Count images that an earlier process asked about in the same attack.

        Raises:
            QueryBudgetExceededError: More than remain.
        """
        if images > self.remaining:
            raise QueryBudgetExceededError(
                f"query budget: {images} images were asked about before, {self.remaining} of "
                f"{self.budget} queries remain"
            )
        self._spent += images

    def query(self, images: NDArray[np.float32]) -> Answers:
        """Ask the target.

        Args:
            images: (n, height, width, channels) float32 in [0, 1].

        Returns:
            Labels (n,) int64, or probabilities (n, classes) float32, by the access.

        Raises:
            QueryBudgetExceededError: More images than remain; nothing was asked.
            AssessmentError: The images do not have the input shape, or the answer is not one
                finite row of ``classes`` values per image.
        """
        if images.shape[1:] != self.input_shape:
            raise AssessmentError(
                f"query: expected images of shape (n, {', '.join(map(str, self.input_shape))}), "
                f"got {images.shape}; make them in the target's input shape"
            )
        if len(images) > self.remaining:
            raise QueryBudgetExceededError(
                f"query budget: {len(images)} images asked about, {self.remaining} of "
                f"{self.budget} queries remain; ask fewer or raise number_of_attack_queries"
            )
        self._spent += len(images)
        answers = np.asarray(self._predict(images), dtype=np.float32)
        if answers.shape != (len(images), self.classes):
            raise AssessmentError(
                f"target: expected answers of shape ({len(images)}, {self.classes}), got "
                f"{answers.shape}; check number_of_classes"
            )
        if not np.isfinite(answers).all():
            raise AssessmentError(
                "target: expected finite outputs, got NaN or infinity; check normalize_data"
            )
        if self.access is Access.LABELS:
            return np.asarray(answers.argmax(axis=1), np.int64)
        return answers
