"""The surrogate: the network that becomes the stolen copy."""

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from modelward import nets
from modelward.attacks.extraction.sources.raster import canvas_size
from modelward.domain import LayerInfo, ModelProfile

__all__ = ["Surrogate", "body_spec", "full_spec"]

_BATCH = 500


def _block(filters: int, kernel: int = 3, strides: int = 1) -> tuple[nets.Layer, ...]:
    return (
        nets.Conv(filters, kernel=kernel, strides=strides, padding="same", bias=False),
        nets.BatchNorm(),
        nets.Relu(),
    )


def body_spec(shape: tuple[int, int, int], classes: int) -> nets.NetSpec:
    """The trained part of the surrogate, for images at canvas size.

    A strided first convolution keeps the cost per image low: the body works at about 14 x 14
    and 7 x 7, where one image takes a third of the time of a network that starts at 28 x 28.
    """
    height, width, _ = canvas_size(shape)
    side = min(height, width)
    layers: list[nets.Layer] = []
    if side >= 20:
        layers += [*_block(32, 5, 2)]
        side = -(-side // 2)
        if side >= 20:
            layers += [nets.MaxPool(2)]
            side //= 2
        layers += [*_block(32)]
    else:
        layers += [*_block(32)]
    if side >= 4:
        layers += [nets.MaxPool(2)]
        side //= 2
    layers += [*_block(64)]
    if side >= 14:
        layers += [nets.MaxPool(2)]
        side //= 2
    layers += [*_block(64), nets.Flatten(), nets.Dropout(0.3), nets.Dense(96), nets.Relu()]
    layers += [nets.Dense(classes)]
    return nets.NetSpec(input_shape=(height, width, shape[2]), layers=tuple(layers))


def full_spec(shape: tuple[int, int, int], classes: int) -> nets.NetSpec:
    """The surrogate for images at full size: large ones are averaged down to the canvas first."""
    body = body_spec(shape, classes)
    factor = canvas_size(shape)[2]
    first = (nets.AvgPool(factor),) if factor > 1 else ()
    return nets.NetSpec(input_shape=shape, layers=(*first, *body.layers))


class Surrogate:
    """A copy of the target, trained on its answers.

    Args:
        spec: Description of the network at full input size.
        module: The network in PyTorch, in evaluation mode.
    """

    def __init__(self, spec: nets.NetSpec, module: Any) -> None:
        self.spec = spec
        self._module = module

    @classmethod
    def of_body(cls, shape: tuple[int, int, int], classes: int, body: Any) -> "Surrogate":
        """Freeze a copy of a trained body as a surrogate for full-size images."""
        frozen = copy.deepcopy(body).eval()
        factor = canvas_size(shape)[2]
        if factor > 1:
            frozen = torch.nn.Sequential(torch.nn.AvgPool2d(factor), *frozen)
        return cls(full_spec(shape, classes), frozen)

    @property
    def body(self) -> Any:
        """The network for images at canvas size, without the averaging before it."""
        averaged = canvas_size(self.spec.input_shape)[2] > 1
        # a slice would keep the layers' old numbers, and with them the names of their weights
        return torch.nn.Sequential(*list(self._module)[1:]) if averaged else self._module

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities.

        Args:
            images: (n, height, width, channels) float32 in [0, 1].

        Returns:
            (n, classes) float32, rows sum to 1.
        """
        out = np.empty((len(images), self.spec.classes), np.float32)
        with torch.inference_mode():
            for low in range(0, len(images), _BATCH):
                part = np.ascontiguousarray(images[low : low + _BATCH], dtype=np.float32)
                logits = self._module(torch.from_numpy(part).permute(0, 3, 1, 2))
                out[low : low + _BATCH] = F.softmax(logits, 1).numpy()
        return out

    def to_keras(self, name: str = "surrogate") -> Any:
        """The same network as ``keras.Sequential`` with softmax outputs."""
        return nets.to_keras(self.spec, self._module, name)

    def save_h5(self, path: Path) -> None:
        """Write the network as an .h5 that Keras 2 and Keras 3 load."""
        nets.save_h5(self.to_keras(), path)

    def profile(self, name: str) -> ModelProfile:
        """Architecture, size and latency for the report."""
        layers = []
        model = self.to_keras()
        for layer in model.layers:
            layers.append(
                LayerInfo(
                    name=layer.name,
                    type=type(layer).__name__,
                    output_shape=str(tuple(layer.output.shape[1:])),
                    parameters=int(layer.count_params()),
                )
            )
        return ModelProfile(
            name=name,
            framework="keras",
            input_shape=self.spec.input_shape,
            classes=self.spec.classes,
            parameters=nets.count_parameters(self._module),
            layers=tuple(layers),
            inference_ms=self._latency(),
        )

    def _latency(self, repeats: int = 30) -> float:
        image = np.zeros((1, *self.spec.input_shape), np.float32)
        times = []
        for _ in range(repeats):
            begin = time.perf_counter()
            self.predict(image)
            times.append(time.perf_counter() - begin)
        return float(np.median(times) * 1000)
