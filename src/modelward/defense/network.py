"""The detector's network, small whatever the image size."""

from modelward.nets import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    Layer,
    NetSpec,
    Relu,
)

__all__ = ["MOST_PARAMETERS", "core_spec", "full_spec", "pool_factor"]

MOST_PARAMETERS = 100_000
_CORE_SIDE = 48
"""Longest side that the convolutions see; larger images are averaged down in the first layer."""
_CONVOLUTIONS = ((16, 5), (32, 3), (48, 3))
"""Filters and window of each."""
_UNITS = 24
_LEAST_MAP = (12, 8, 8)
"""Longest side up to which each convolution keeps the resolution."""


def pool_factor(shape: tuple[int, int, int]) -> int:
    """Side of the windows that the first layer averages; 1 means that there is no such layer."""
    factor = -(-max(shape[:2]) // _CORE_SIDE)
    return max(1, min(factor, *shape[:2]))


def core_spec(shape: tuple[int, int, int]) -> NetSpec:
    """The network behind the averaging layer.

    Args:
        shape: (height, width, channels) of the images before averaging.

    Returns:
        Three convolutions and two dense layers, two logits (not-attack, attack).
    """
    factor = pool_factor(shape)
    height, width = shape[0] // factor, shape[1] // factor
    layers: list[Layer] = []
    rows, columns = height, width
    # A wide first window with stride 2 costs a fifth of full resolution at about the same rates.
    for index, (filters, kernel) in enumerate(_CONVOLUTIONS):
        strides = 2 if max(rows, columns) > _LEAST_MAP[index] else 1
        rows, columns = -(-rows // strides), -(-columns // strides)
        layers += [Conv(filters, kernel, strides, bias=False), BatchNorm(), Relu()]
    layers += [Flatten(), Dense(_UNITS), Relu(), Dense(2)]
    return NetSpec((height, width, shape[2]), tuple(layers))


def full_spec(shape: tuple[int, int, int]) -> NetSpec:
    """The network as it is saved: images of any size in."""
    factor = pool_factor(shape)
    before: tuple[Layer, ...] = (AvgPool(factor),) if factor > 1 else ()
    return NetSpec(shape, (*before, *core_spec(shape).layers))
