"""Where a long attack writes down how far it is, so that another process can go on."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from modelward.attacks.extraction.plan import ExtractionPlan

__all__ = ["Notebook", "arrays_of", "load_arrays", "of_plan"]


class Notebook(Protocol):
    """Keeps the last thing written into it; values are JSON, arrays hold numbers."""

    def read(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]] | None:
        """What an earlier process wrote last; None where there is nothing."""

    def due(self) -> bool:
        """Whether writing is worth its time now."""

    def write(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace what was written before."""


def of_plan(plan: ExtractionPlan, sources: tuple[str, ...]) -> dict[str, Any]:
    """What notes must have in common with the attack that goes on from them."""
    return {
        "input_shape": list(plan.input_shape),
        "classes": plan.classes,
        "attack_type": str(plan.attack_type),
        "access": str(plan.access),
        "budget": plan.budget,
        "seed": plan.seed,
        "sources": list(sources),
        "seed_images": 0 if plan.seed_images is None else len(plan.seed_images),
    }


def arrays_of(module: Any, prefix: str) -> dict[str, NDArray[Any]]:
    """Weights and statistics of a network, by name."""
    return {f"{prefix}{name}": value.numpy() for name, value in module.state_dict().items()}


def load_arrays(module: Any, arrays: Mapping[str, NDArray[Any]], prefix: str) -> None:
    """Put weights and statistics back into a network of the same shape.

    Values are copied into the tensors that are there, whose order in memory stays: it decides
    which kernels run, and so the last bits of every result.
    """
    state = {
        name.removeprefix(prefix): torch.from_numpy(np.asarray(value))
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
    module.load_state_dict(state)
