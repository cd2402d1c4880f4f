"""What image classifiers have in common, wherever they run."""

import copy
from abc import ABC, abstractmethod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from modelward.domain import Access
from modelward.targets.adapt import batch_size, check_images, check_order, find_layout, prepare

__all__ = ["Classifier"]


class Classifier(ABC):
    """An image classifier as a function from images to probabilities.

    Attributes:
        input_shape: Height, width, channels of the images that ``predict`` takes.
        classes: Number of classes.
        normalize_data: True: the model takes pixels in [0, 1]; False: 0 to 255.
        color_space: Channel order that the model takes; None: rgb.
        notes: Where the model runs and how images and answers are adapted, for the report.
        offers: What its answers are: probabilities, or labels only.
    """

    offers = Access.PROBABILITIES

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        normalize_data: bool,
        color_space: str | None,
    ) -> None:
        self.input_shape = input_shape
        self.classes = classes
        self.normalize_data = normalize_data
        self.color_space = color_space
        self.notes: tuple[str, ...] = ()
        self._layout = "plain"

    def with_color_space(self, order: str | None) -> Self:
        """The same model, fed in another channel order.

        Args:
            order: rgb, bgr, gray or None (as rgb).
        """
        check_order(order)
        other = copy.copy(self)
        other.color_space = order
        return other

    def with_normalisation(self, normalize_data: bool) -> Self:
        """The same model, given pixels from 0 to 1 (True) or from 0 to 255 (False)."""
        other = copy.copy(self)
        other.normalize_data = normalize_data
        return other

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities; 1 for the label and 0 elsewhere where labels are all it gives.

        Args:
            images: (n, height, width, channels) float32 in [0, 1], gray or RGB.

        Returns:
            (n, classes) float32; rows sum to 1.

        Raises:
            AssessmentError: The images do not have the model's shape, an answer is none, or the
                model was ended.
        """
        check_images(images, self.input_shape)
        size = batch_size(self.input_shape)
        answers = np.empty((len(images), self.classes), np.float32)
        for start in range(0, len(images), size):
            answers[start : start + size] = self._probabilities(images[start : start + size])
        return answers

    @abstractmethod
    def _probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answers to one batch, (n, classes) float32."""

    def _take(self, shape: tuple[int | None, ...] | None) -> None:
        """Choose how images are laid out for a model that takes this shape; None: as they are."""
        self._layout = "plain" if shape is None else find_layout(shape, self.input_shape)
        if self._layout != "plain":
            self.notes += (f"Images are given to the model as {shape}.",)

    def _prepared(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """A batch as the model takes it."""
        return prepare(
            images,
            layout=self._layout,
            color_space=self.color_space,
            normalize_data=self.normalize_data,
        )
