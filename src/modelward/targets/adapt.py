"""Between images as Modelward holds them and what a model takes and gives.

Images are (n, height, width, channels) float32 in [0, 1], gray or RGB. Answers become class
probabilities whether a model gives probabilities, sigmoids or logits.
"""

import math
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modelward.domain import AssessmentError

__all__ = [
    "COLOR_ORDERS",
    "as_probabilities",
    "batch_size",
    "check_images",
    "check_order",
    "find_layout",
    "median_milliseconds",
    "prepare",
    "recognise",
    "refuse_not_finite",
    "sample_images",
]

COLOR_ORDERS = (None, "rgb", "bgr", "gray")
BATCH_VALUES = 2**17
"""Input values per batch; 128 to 256 small images measured fastest, their layers fit the caches."""
_SAMPLES = 8


def batch_size(shape: tuple[int, int, int]) -> int:
    """Images of this shape that are asked about at a time."""
    return max(1, min(1024, BATCH_VALUES // math.prod(shape)))


def check_images(images: NDArray[np.float32], shape: tuple[int, int, int]) -> None:
    """Refuse images of another shape.

    Raises:
        AssessmentError: They are not (n, *shape).
    """
    if images.ndim != 4 or images.shape[1:] != shape:
        raise AssessmentError(
            f"model: expected images of (n, {', '.join(map(str, shape))}); got {images.shape}"
        )


def check_order(order: str | None) -> None:
    """Refuse a channel order that is none.

    Raises:
        AssessmentError: It is not one of ``COLOR_ORDERS``.
    """
    if order not in COLOR_ORDERS:
        raise AssessmentError(f"color_space: expected rgb, bgr or gray; got {order!r}")


def find_layout(taken: tuple[int | None, ...], given: tuple[int, int, int]) -> str:
    """How images are laid out for a model; refused where it does not fit or is ambiguous.

    Args:
        taken: Sides of the model's input without the batch; None fits any.
        given: Height, width, channels of the images.

    Raises:
        AssessmentError: No layout fits.
    """
    height, width, channels = given

    def fits(shape: tuple[int, ...]) -> bool:
        return len(taken) == len(shape) and all(
            want in (None, have) for want, have in zip(taken, shape, strict=True)
        )

    if fits(given):
        return "plain"
    if channels == 1 and fits((height, width)):
        return "without channel axis"
    if len(taken) == 1 and taken[0] in (None, height * width * channels):
        return "flat"
    if None not in taken and fits((channels, height, width)):
        return "channels first"
    raise AssessmentError(
        f"model: expected an input of {given}, as input_dimensions says; the model takes {taken}; "
        "correct input_dimensions or upload another model"
    )


def prepare(
    images: NDArray[np.float32], *, layout: str, color_space: str | None, normalize_data: bool
) -> NDArray[np.float32]:
    """Images as the model takes them.

    Args:
        images: (n, height, width, channels) float32 in [0, 1], gray or RGB.
        layout: From ``find_layout``.
        color_space: Channel order that the model takes.
        normalize_data: False: the model takes 0 to 255.
    """
    batch = np.asarray(images, np.float32)
    if color_space == "bgr" and images.shape[3] == 3:
        batch = batch[..., ::-1]
    if not normalize_data:
        batch = batch * np.float32(255)
    return np.ascontiguousarray(_arrange(batch, layout))


def _arrange(batch: NDArray[np.float32], layout: str) -> NDArray[np.float32]:
    if layout == "without channel axis":
        return batch[..., 0]
    if layout == "flat":
        return batch.reshape(len(batch), -1)
    if layout == "channels first":
        return batch.transpose(0, 3, 1, 2)
    return batch


def sample_images(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Noise of growing contrast to look at a model's answers with, (8, *shape) in [0, 1]."""
    noise = np.random.default_rng(0).random((_SAMPLES, *shape), np.float32)
    noise *= np.linspace(0, 1, _SAMPLES, dtype=np.float32).reshape(_SAMPLES, 1, 1, 1)
    return noise


def refuse_not_finite(values: NDArray[np.float32]) -> None:
    """Refuse answers that are no numbers.

    Raises:
        AssessmentError: NaN or infinity in a row.
    """
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise AssessmentError(
            f"model: expected finite answers; got NaN or infinity for {bad} of {len(values)} "
            "images; check the weights and normalize_data"
        )


def recognise(values: NDArray[np.float32], classes: int, activation: str | None) -> str:
    """What a model's answers are: probabilities, sigmoids or logits.

    Args:
        values: (n, numbers) answers to ``sample_images``.
        classes: Number of classes that the payload names.
        activation: Name of the function that makes the output; None where it is not known.

    Raises:
        AssessmentError: The number of outputs does not fit the classes.
    """
    count = values.shape[1]
    if count != classes and not (count == 1 and classes == 2):
        raise AssessmentError(
            f"model: expected {classes} outputs, as number_of_classes says; got {count}; "
            "correct number_of_classes (labels count from 0) or upload another model"
        )
    if count == 1:
        inside = bool(((values >= 0) & (values <= 1)).all())
        known = activation == "sigmoid" or (activation is None and inside)
        return "one sigmoid" if known else "one logit"
    if activation == "softmax" or (
        (values >= 0).all() and np.allclose(values.sum(axis=1), 1.0, atol=1e-3)
    ):
        return "probabilities"
    return "sigmoids" if activation == "sigmoid" else "logits"


def as_probabilities(values: NDArray[np.float32], answer: str) -> NDArray[np.float32]:
    """Answers of a kind that ``recognise`` names, as (n, classes) float32 whose rows sum to 1."""
    positive = values
    if answer == "one logit":
        positive = np.float32(1) / (np.float32(1) + np.exp(-np.clip(values, -80, 80)))
    if answer in ("one logit", "one sigmoid"):
        return np.concatenate([1 - positive, positive], axis=1)
    if answer == "logits":
        positive = np.exp(values - values.max(axis=1, keepdims=True))
    if answer == "sigmoids":
        positive = values + np.float32(1e-12)  # all zero: no class is preferred
    return np.asarray(positive / positive.sum(axis=1, keepdims=True), np.float32)


def median_milliseconds(
    predict: Callable[[NDArray[np.float32]], object], shape: tuple[int, int, int], repeats: int
) -> float | None:
    """Median wall time of one image, or None where nothing is to be timed.

    Args:
        predict: Takes (1, *shape) float32.
        shape: Height, width, channels.
        repeats: Predictions that are timed, after three that are not: the first calls allocate.
    """
    one = np.full((1, *shape), 0.5, np.float32)
    seconds = []
    for turn in range(repeats + 3):
        start = time.perf_counter()
        predict(one)
        if turn >= 3:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000 if seconds else None
