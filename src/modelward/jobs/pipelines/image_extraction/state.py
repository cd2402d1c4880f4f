"""What the stages of one job hand to each other."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelward.attacks import ExtractionResult
from modelward.data import ImageSet
from modelward.domain import ImageExtractionConfig, VulnerabilityReport
from modelward.targets import KerasModel, SandboxedModel

__all__ = ["Assessment", "Labels", "Model"]

Model = KerasModel | SandboxedModel

Labels = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Assessment:
    """State of an image classification extraction job, filled stage by stage.

    An attribute exists once the stage that fills it has run; stages run in order.
    """

    config: ImageExtractionConfig
    model: Model = field(init=False)
    images: ImageSet = field(init=False)
    target_labels: Labels = field(init=False)
    """The target's label for every uploaded image, (n,) int64."""
    seeds: Labels = field(init=False)
    """Indices of uploaded images that may seed the queries (grey box); empty in black box."""
    scored: Labels = field(init=False)
    """Indices of uploaded images on which the clone is scored."""
    result: ExtractionResult = field(init=False)
    report: VulnerabilityReport = field(init=False)
    notes: list[str] = field(default_factory=list)
