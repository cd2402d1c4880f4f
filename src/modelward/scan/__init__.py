"""Static scan of model files: nothing is loaded, what cannot be read is never called clean."""

from modelward.scan.kind import ModelKind, model_kind
from modelward.scan.limits import Limits
from modelward.scan.report import Finding, Level, Outcome, Part, ScanReport, Verdict

__all__ = [
    "Finding",
    "Level",
    "Limits",
    "ModelKind",
    "Outcome",
    "Part",
    "ScanReport",
    "Verdict",
    "model_kind",
]
