"""A Keras image classifier as a function from images to probabilities."""

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from modelward.domain import Access, AssessmentError, LayerInfo, ModelProfile
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
from modelward.targets.keras_file import open_model

__all__ = ["KerasModel", "load_keras"]


class KerasModel:
    """An image classifier with one input and one output; made by ``load_keras``.

    Attributes:
        input_shape: Height, width, channels of the images that ``predict`` takes.
        classes: Number of classes.
        notes: How images and answers are adapted to what the model takes and gives, for the
            report.
        offers: A Keras model's answers are probabilities.
    """

    offers = Access.PROBABILITIES

    def __init__(
        self,
        model: Any,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        normalize_data: bool,
        color_space: str | None,
    ) -> None:
        self._model = model
        self.input_shape = input_shape
        self.classes = classes
        self.normalize_data = normalize_data
        self.color_space = color_space
        self.notes: tuple[str, ...] = ()
        self._layout = find_layout(_model_input(model), input_shape)
        if self._layout != "plain":
            self.notes += (f"Images are given to the model as {_model_input(model)}.",)
        self._answer = "probabilities"
        self._answer = self._recognise()
        if self._answer != "probabilities":
            self.notes += (f"The model's answers are {self._answer}; they are converted.",)

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
        """Class probabilities.

        Args:
            images: (n, height, width, channels) float32 in [0, 1], gray or RGB.

        Returns:
            (n, classes) float32; rows sum to 1.

        Raises:
            AssessmentError: The images do not have the model's shape, or an answer is no number.
        """
        check_images(images, self.input_shape)
        size = batch_size(self.input_shape)
        answers = np.empty((len(images), self.classes), np.float32)
        for start in range(0, len(images), size):
            raw = self._raw(images[start : start + size])
            answers[start : start + size] = as_probabilities(raw, self._answer)
        return answers

    def profile(self, name: str, repeats: int = 30) -> ModelProfile:
        """Architecture and latency, for the report.

        Args:
            name: What the report calls the model.
            repeats: Predictions of one image that are timed; their median counts.
        """
        import keras

        layers = [_layer_info(layer) for layer in self._model.layers]
        if self._layout != "plain":
            shape = str((None, *_model_input(self._model)))
            layers.insert(
                0, LayerInfo(name="adapter", type="Reshape", output_shape=shape, parameters=0)
            )
        return ModelProfile(
            name=name,
            framework=f"Keras {keras.__version__} ({keras.backend.backend()})",
            input_shape=self.input_shape,
            classes=self.classes,
            parameters=int(self._model.count_params()),
            layers=tuple(layers),
            inference_ms=median_milliseconds(self.predict, self.input_shape, repeats),
        )

    def _raw(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The model's own answer to a batch, as (n, values)."""
        import torch

        batch = prepare(
            images,
            layout=self._layout,
            color_space=self.color_space,
            normalize_data=self.normalize_data,
        )
        try:
            with torch.inference_mode():
                answer = self._model(torch.from_numpy(batch), training=False)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise AssessmentError(
                f"model: expected answers to images of {self.input_shape}; got the error "
                f"{lines[0][:300]}"
            ) from error
        if not isinstance(answer, torch.Tensor):
            kind = type(answer).__name__
            raise AssessmentError(f"model: expected one output; got several (a {kind})")
        values: NDArray[np.float32] = answer.float().cpu().numpy()
        values = values.reshape(len(batch), -1)
        refuse_not_finite(values)
        return values

    def _recognise(self) -> str:
        values = self._raw(sample_images(self.input_shape))
        return recognise(values, self.classes, _last_activation(self._model))


def load_keras(
    path: Path,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    normalize_data: bool,
    color_space: str | None,
) -> KerasModel:
    """Check a Keras file, load it, and check that it takes and gives what the payload says.

    Args:
        path: A .h5 or .keras file.
        input_shape: Height, width, channels of one image.
        classes: Number of classes.
        normalize_data: True: the model takes pixels in [0, 1]; False: 0 to 255.
        color_space: Channel order that the model takes; None: rgb until
            ``KerasModel.with_color_space`` says otherwise.

    Raises:
        AssessmentError: No Keras model, one with parts that are refused, or one whose input shape
            or number of outputs contradicts the arguments.
    """
    return KerasModel(
        open_model(path),
        input_shape=input_shape,
        classes=classes,
        normalize_data=normalize_data,
        color_space=color_space,
    )


def _model_input(model: Any) -> tuple[int | None, ...]:
    """Shape of the model's one input, without the batch."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, dict) and len(shape) == 1:
        shape = next(iter(shape.values()))
    if isinstance(shape, list) and len(shape) == 1:
        shape = shape[0]
    if not isinstance(shape, tuple) or not all(n is None or isinstance(n, int) for n in shape):
        raise AssessmentError(
            f"model: expected a model with one image input; got inputs of shape {shape}"
        )
    return shape[1:]


def _last_activation(model: Any) -> str | None:
    """Name of the function that makes the output; None where it cannot be told."""
    layer = model
    while getattr(layer, "layers", None):
        layer = layer.layers[-1]
        if type(layer).__name__ in ("Reshape", "Flatten", "Identity", "Dropout"):
            return None
    if type(layer).__name__ == "Softmax":
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return None if name in (None, "linear") else str(name)


def _layer_info(layer: Any) -> LayerInfo:
    try:
        shape = str(layer.output.shape)
    except Exception:  # a layer that was called several times, or never, has no one output
        shape = "various"
    return LayerInfo(
        name=str(layer.name),
        type=type(layer).__name__,
        output_shape=shape,
        parameters=int(layer.count_params()),
    )
