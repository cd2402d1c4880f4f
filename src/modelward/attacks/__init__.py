"""Attacks: query sources and model extraction."""

import numpy as np
from numpy.typing import NDArray

from modelward.attacks.extraction import (
    ExtractionPlan,
    ExtractionResult,
    Notebook,
    Surrogate,
    attack_samples,
    choose_samples,
    extract,
    make_images,
)
from modelward.attacks.registry import (
    Parents,
    QuerySource,
    SourceKind,
    get_source,
    query_source,
    query_sources,
)

__all__ = [
    "ExtractionPlan",
    "ExtractionResult",
    "Notebook",
    "Parents",
    "QuerySource",
    "SourceKind",
    "Surrogate",
    "attack_samples",
    "choose_samples",
    "extract",
    "generate",
    "get_source",
    "query_source",
    "query_sources",
]


def generate(
    source: str,
    n: int,
    input_shape: tuple[int, int, int],
    seed: int,
    parents: Parents | None = None,
) -> NDArray[np.uint8]:
    """Make images of a query source without asking any target.

    Args:
        source: Name of a registered source.
        n: Number of images.
        input_shape: Height, width, channels (1 or 3).
        seed: The same seed gives the same images.
        parents: For derived and seeded sources; None: images of the synthetic sources.

    Returns:
        (n, height, width, channels) uint8.

    Raises:
        InvalidParameterError: The name is unknown.
    """
    if parents is None and get_source(source).kind is not SourceKind.SYNTHETIC:
        base = query_sources(SourceKind.SYNTHETIC)
        each = max(8, n // (2 * len(base)))
        images = [
            make_images(s.name, each, input_shape, seed + 1 + k, None) for k, s in enumerate(base)
        ]
        parents = Parents(images=np.concatenate(images), labels=np.arange(len(base)).repeat(each))
    return make_images(source, n, input_shape, seed, parents)
