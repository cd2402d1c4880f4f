"""An image classifier in the sandbox, as a target."""

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from modelward.domain import Access, AssessmentError, ModelProfile, SandboxOptions
from modelward.targets.adapt import (
    as_probabilities,
    batch_size,
    check_images,
    check_order,
    find_layout,
    median_milliseconds,
    prepare,
    recognise,
    refuse_not_finite,
    sample_images,
)
from modelward.targets.sandbox.choice import KINDS
from modelward.targets.sandbox.exchange import Exchange, start_model
from modelward.targets.sandbox.interpreters import Interpreter
from modelward.targets.sandbox.process import SandboxProcess

__all__ = ["HIDDEN", "SandboxedModel", "open_sandboxed"]

HIDDEN = "not visible: runs in the sandbox"
_LABELS = "labels"


class SandboxedModel:
    """An image classifier that runs in the sandbox; made by ``open_sandboxed``.

    Attributes:
        input_shape: Height, width, channels of the images that ``predict`` takes.
        classes: Number of classes.
        notes: Where the model runs and how images and answers are adapted, for the report.
        offers: What its answers are: probabilities, or labels only.
    """

    def __init__(
        self,
        process: SandboxProcess,
        interpreter: Interpreter,
        kind: str,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        normalize_data: bool,
        color_space: str | None,
    ) -> None:
        self._process = process
        self._kind = kind
        self.input_shape = input_shape
        self.classes = classes
        self.normalize_data = normalize_data
        self.color_space = color_space
        self.framework = process.hello["framework"] or KINDS[kind]
        self.notes: tuple[str, ...] = (
            f"The model runs in a sandbox under Python {interpreter.version}; its architecture is "
            "not visible, and its latency includes the way into the sandbox and back.",
            *process.hello["notes"],
        )
        taken = process.hello["input"]
        self._layout = "plain" if taken is None else find_layout(tuple(taken), input_shape)
        if self._layout != "plain":
            self.notes += (f"Images are given to the model as {tuple(taken)}.",)
        self._answer = self._recognise(self._ask(sample_images(input_shape)))
        self.offers = Access.LABELS if self._answer == _LABELS else Access.PROBABILITIES
        if self._answer == _LABELS:
            self.notes += ("The model answers with class numbers; probabilities are not known.",)
        elif self._answer != "probabilities":
            self.notes += (f"The model's answers are {self._answer}; they are converted.",)

    def with_color_space(self, order: str | None) -> Self:
        """The same model in the same sandbox, fed in another channel order.

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
        """Class probabilities, or 1 for the label and 0 elsewhere where labels are all it gives.

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
        answers = np.zeros((len(images), self.classes), np.float32)
        for start in range(0, len(images), size):
            raw = self._ask(images[start : start + size])
            if self._answer == _LABELS:
                labels = _labels(raw, self.classes)
                answers[np.arange(start, start + len(labels)), labels] = 1.0
            else:
                answers[start : start + size] = as_probabilities(self._checked(raw), self._answer)
        return answers

    def profile(self, name: str, repeats: int = 30) -> ModelProfile:
        """What can be said of a model that cannot be looked into, for the report.

        Args:
            name: What the report calls the model.
            repeats: Predictions of one image that are timed; their median counts.
        """
        return ModelProfile(
            name=name,
            framework=f"{self.framework} (in the sandbox)",
            input_shape=self.input_shape,
            classes=self.classes,
            parameters=None,
            hidden=HIDDEN,
            inference_ms=median_milliseconds(self.predict, self.input_shape, repeats),
        )

    def close(self) -> None:
        """End the sandbox; the model answers no more."""
        self._process.close()

    def _ask(self, images: NDArray[np.float32]) -> NDArray[Any]:
        return self._process.ask(
            prepare(
                images,
                layout=self._layout,
                color_space=self.color_space,
                normalize_data=self.normalize_data,
            )
        )

    def _checked(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        values = raw.astype(np.float32)
        refuse_not_finite(values)
        wanted = 1 if self._answer in ("one sigmoid", "one logit") else self.classes
        if values.shape[1] != wanted:
            raise AssessmentError(
                f"model: expected {wanted} numbers per image as before; got {values.shape[1]}"
            )
        return values

    def _recognise(self, raw: NDArray[Any]) -> str:
        """Labels are one whole number per image; one number of two classes may be a sigmoid."""
        if raw.shape[1] == 1:
            whole = raw.dtype.kind == "i" or bool(np.all(np.mod(raw, 1) == 0))
            if whole and (raw.dtype.kind == "i" or self._kind == "base_model" or self.classes > 2):
                _labels(raw, self.classes)
                return _LABELS
        values = raw.astype(np.float32)
        refuse_not_finite(values)
        return recognise(values, self.classes, None)


def open_sandboxed(
    exchange: Exchange,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    normalize_data: bool,
    color_space: str | None,
    options: SandboxOptions,
) -> SandboxedModel:
    """Start an image classifier in the sandbox and check what it takes and gives.

    The sandbox ends with the thread that calls this, with the model, or with ``close``.

    Args:
        exchange: The model's files.
        input_shape: Height, width, channels of one image.
        classes: Number of classes.
        normalize_data: True: the model takes pixels in [0, 1]; False: 0 to 255.
        color_space: Channel order that the model takes; None: rgb.
        options: Limits and interpreters.

    Raises:
        AssessmentError: There is no sandbox or no interpreter, or the model does not load or fit.
    """
    process, interpreter = start_model(exchange, classes, options)
    try:
        return SandboxedModel(
            process,
            interpreter,
            exchange.kind,
            input_shape=input_shape,
            classes=classes,
            normalize_data=normalize_data,
            color_space=color_space,
        )
    except BaseException:
        process.close()
        raise


def _labels(raw: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Class numbers out of an answer of one whole number per image.

    Raises:
        AssessmentError: It is not one whole number per image, or one that is no class.
    """
    if raw.shape[1] != 1 or not np.all(np.mod(raw, 1) == 0):  # NaN is no whole number either
        raise AssessmentError(
            f"model: expected one class number per image; got {raw.shape[1]} numbers that are not "
            "all whole"
        )
    low, high = raw.min(), raw.max()
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise AssessmentError(
            f"model: expected class numbers from 0 to {classes - 1}, as number_of_classes says; "
            f"got {wrong:g}; correct number_of_classes or upload another model"
        )
    return raw[:, 0].astype(np.int64)
