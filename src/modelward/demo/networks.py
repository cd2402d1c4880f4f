"""Networks of the reference run, each with the schedule that suits it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from modelward.domain import InvalidParameterError
from modelward.nets import BatchNorm, Conv, Dense, Dropout, Flatten, Layer, MaxPool, NetSpec, Relu

__all__ = ["Architecture", "TrainPlan", "choose_network"]


class Architecture(StrEnum):
    """Which classifier the reference run trains."""

    DEFAULT = "default"
    REFERENCE = "reference"

    @classmethod
    def parse(cls, spelling: str) -> Self:
        """Read a spelling in any case.

        Raises:
            InvalidParameterError: It names no architecture; the message lists them.
        """
        try:
            return cls(spelling.strip().lower())
        except ValueError:
            raise InvalidParameterError(
                f"architecture: expected one of {', '.join(cls)}; got {spelling!r}"
            ) from None


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """How a network is trained.

    The learning rate rises linearly to its peak and falls as a cosine (L. Smith, "Super-
    Convergence", 2017); ``constant`` keeps it. What is validated and saved is an exponential
    moving average of the weights (B. Polyak, A. Juditsky, 1992), unless ``averaging`` is 0.
    """

    epochs: int
    """Length of the schedule."""
    extra_epochs: int
    """How many more epochs may follow at a low learning rate where the target was missed."""
    batch: int
    peak_rate: float
    target: float
    """Validation accuracy at which training stops."""
    constant: bool = False
    warmup: float = 0.2
    """Share of the schedule in which the learning rate rises."""
    averaging: float = 0.995
    """Decay of the moving average per step."""
    rotation: float = 0.0
    """Augmentation: up to so many degrees."""
    scaling: float = 0.0
    """Augmentation: stretch and shear up to so much, as a fraction."""
    shift: float = 0.0
    """Augmentation: up to so many pixels."""
    checks_per_epoch: int = 1
    """How often the validation accuracy is looked at once ``checks_from`` epochs are over."""
    checks_from: float = 0.0


def _block(filters: int, kernel: int = 3, strides: int = 1, padding: str = "same") -> list[Layer]:
    return [Conv(filters, kernel, strides, padding, bias=False), BatchNorm(), Relu()]


def _default(input_shape: tuple[int, int, int], classes: int) -> NetSpec:
    # The strided first layer leaves 12 x 12 positions: most of the time of a digit classifier
    # goes into layers at 28 x 28, which add next to nothing to its accuracy.
    layers: list[Layer] = [
        *_block(24, 5, 2, "valid"),
        *_block(40),
        MaxPool(2),
        *_block(80),
        MaxPool(2),
        Flatten(),
        Dropout(0.2),
        Dense(classes),
    ]
    return NetSpec(input_shape, tuple(layers))


def _reference(input_shape: tuple[int, int, int], classes: int) -> NetSpec:
    layers: list[Layer] = []
    for filters, kernel in ((32, 5), (64, 3)):
        layers += [Conv(filters, kernel), Relu(), Conv(filters, kernel), Relu()]
        layers += [MaxPool(2), Dropout(0.25)]
    layers += [Flatten(), Dense(128), Relu(), Dropout(0.5), Dense(classes)]
    return NetSpec(input_shape, tuple(layers))


def _quick(input_shape: tuple[int, int, int], classes: int) -> NetSpec:
    layers = [*_block(16), *_block(32), MaxPool(2), Flatten(), Dropout(0.2), Dense(classes)]
    return NetSpec(input_shape, tuple(layers))


_DEFAULT_PLAN = TrainPlan(
    epochs=9,
    extra_epochs=6,
    batch=128,
    peak_rate=8e-3,
    target=0.993,
    rotation=10.0,
    scaling=0.12,
    shift=2.0,
    checks_per_epoch=3,
    checks_from=3.0,
)
_REFERENCE_PLAN = TrainPlan(
    epochs=20,
    extra_epochs=10,
    batch=128,
    peak_rate=1e-3,
    target=0.993,
    constant=True,
    rotation=10.0,
    scaling=0.12,
    shift=2.0,
)
_QUICK_PLAN = TrainPlan(
    epochs=20, extra_epochs=10, batch=64, peak_rate=1e-2, target=0.975, checks_from=5.0
)


def choose_network(
    architecture: Architecture, input_shape: tuple[int, int, int], classes: int, *, quick: bool
) -> tuple[NetSpec, TrainPlan]:
    """Pick the network and its schedule.

    Args:
        architecture: Which one was asked for.
        input_shape: (height, width, channels) of the images.
        classes: Number of classes.
        quick: Whether this is a quick run on small images; the reference architecture keeps its
            layers there but gets the short schedule.
    """
    if architecture is Architecture.REFERENCE:
        spec = _reference(input_shape, classes)
        plan = _REFERENCE_PLAN
        if quick:
            plan = TrainPlan(
                epochs=30,
                extra_epochs=0,
                batch=64,
                peak_rate=1e-3,
                target=_QUICK_PLAN.target,
                constant=True,
                averaging=0.0,
            )
        return spec, plan
    if quick:
        return _quick(input_shape, classes), _QUICK_PLAN
    return _default(input_shape, classes), _DEFAULT_PLAN
