"""Model extraction of image classifiers."""

from modelward.attacks.extraction.attack import extract
from modelward.attacks.extraction.notebook import Notebook
from modelward.attacks.extraction.plan import ExtractionPlan
from modelward.attacks.extraction.result import ExtractionResult, make_images
from modelward.attacks.extraction.samples import attack_samples, choose_samples
from modelward.attacks.extraction.surrogate import Surrogate

__all__ = [
    "ExtractionPlan",
    "ExtractionResult",
    "Notebook",
    "Surrogate",
    "attack_samples",
    "choose_samples",
    "extract",
    "make_images",
]
