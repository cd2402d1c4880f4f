"""What a reference run found, as one small file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelward.demo.evaluation import CloneResult, Verdict
from modelward.demo.reporting import Delivered

__all__ = ["DefenseFigures", "Summary", "defense_figures"]


@dataclass(frozen=True)
class DefenseFigures:
    """The detector's figures; None where something was not measured."""

    auroc: float | None
    tpr: float | None
    """On held-out queries."""
    fpr: float | None
    """On the test digits."""
    tpr_unseen: float | None
    """The smallest over the query sources that a detector was trained without."""
    overhead_ratio: float | None
    """Median latency of the detector over that of the model, batch size 1."""


def defense_figures(report: dict[str, Any] | None, fpr: float | None) -> DefenseFigures:
    """Take the detector's figures from its report.

    Args:
        report: Defense.json, or None where no defence was made.
        fpr: Measured on the test digits.
    """
    if report is None:
        return DefenseFigures(None, None, None, None, None)
    unseen = [_value(row.get("tpr")) for row in report.get("unseen", ())]
    measured = [value for value in unseen if value is not None]
    return DefenseFigures(
        auroc=_value(report.get("auroc")),
        tpr=_value(report.get("tpr")),
        fpr=fpr,
        tpr_unseen=min(measured, default=None),
        overhead_ratio=_value((report.get("cost") or {}).get("ratio")),
    )


def _value(measured: Any) -> float | None:
    if isinstance(measured, dict):
        measured = measured.get("value")
    return None if measured is None else float(measured)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything in ``summary.json``."""

    validation_accuracy: float
    test_accuracy: float
    train_seconds: float
    seconds_to_target: float | None
    assess_seconds: float
    queries: int | None
    seed: int
    job_id: str
    mlflow_run_id: str | None
    access: str
    clone: CloneResult | None
    vulnerability_score: float
    severity: str
    defense: DefenseFigures
    original_predictions: list[Verdict]
    attack_predictions: list[Verdict]
    deliveries: list[Delivered]
    """Of the detections among the attack predictions; empty without a SIEM."""
    output_dir: Path
    monitor_link: str

    def as_dict(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        clone = self.clone
        return {
            "validation_accuracy": self.validation_accuracy,
            "test_accuracy": self.test_accuracy,
            "train_seconds": _rounded(self.train_seconds),
            "seconds_to_target": _rounded(self.seconds_to_target),
            "assess_seconds": _rounded(self.assess_seconds),
            "queries": self.queries,
            "seed": self.seed,
            "job_id": self.job_id,
            "mlflow_run_id": self.mlflow_run_id,
            "extraction": {
                "access": self.access,
                "accuracy": clone.accuracy if clone else None,
                "agreement": clone.agreement if clone else None,
                "curve": [list(point) for point in clone.curve] if clone else [],
            },
            "vulnerability_score": self.vulnerability_score,
            "severity": self.severity,
            "defense": asdict(self.defense),
            "original_predictions": [asdict(verdict) for verdict in self.original_predictions],
            "attack_predictions": [asdict(verdict) for verdict in self.attack_predictions],
            "siem_deliveries": [asdict(row) for row in self.deliveries],
            "output_dir": str(self.output_dir),
            "monitor_link": self.monitor_link,
        }

    def write(self, path: Path) -> None:
        """Write ``summary.json`` in one step."""
        scratch = path.with_suffix(".part")
        scratch.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")
        scratch.replace(path)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
