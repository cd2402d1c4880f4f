"""The typed report model: what an assessment measured, before any rendering."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelward.domain.taxonomy import Access, AttackType, Severity

__all__ = [
    "ClassView",
    "Cost",
    "CurvePoint",
    "DefenseReport",
    "EncodingView",
    "Interval",
    "JobInfo",
    "LayerInfo",
    "Measured",
    "ModelProfile",
    "Reference",
    "SourceDetection",
    "SourceShare",
    "ThreatModel",
    "VulnerabilityReport",
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Part):
    """A confidence interval."""

    low: float
    high: float
    level: float = 0.95


class Measured(_Part):
    """A rate or an area with its interval, or None with the reason why it was not measured."""

    value: float | None
    interval: Interval | None = None
    n: int = 0
    """Number of samples behind the value."""
    reason: str | None = None
    """Why value (or interval) is None."""

    @model_validator(mode="after")
    def _reason_for_none(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError("a value that was not measured needs a reason")
        return self


class LayerInfo(_Part):
    """One row of an architecture table."""

    name: str
    type: str
    output_shape: str
    parameters: int


class ModelProfile(_Part):
    """A model as the report describes it."""

    name: str
    framework: str
    input_shape: tuple[int, ...]
    classes: int
    parameters: int | None
    """None where the model cannot be looked into."""
    layers: tuple[LayerInfo, ...] = ()
    hidden: str | None = None
    """Why layers and parameters are not known."""
    inference_ms: float | None = None
    """Median milliseconds for one input, batch size 1, on the assessing machine's CPU."""

    @model_validator(mode="after")
    def _reason_for_none(self) -> Self:
        if self.parameters is None and not self.hidden:
            raise ValueError("parameters that are not known need a reason in hidden")
        return self


class JobInfo(_Part):
    """Where the report comes from, and how to repeat it."""

    job_id: str
    model_id: str
    task_type: str
    analysis_type: str
    created: datetime
    modelward_version: str
    seed: int
    parameters: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """The analysis parameters in force."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Library versions that made the numbers."""
    stage_seconds: dict[str, float] = Field(default_factory=dict)
    """Wall time of the stages so far."""


class ThreatModel(_Part):
    """What the attacker sees, knows and may spend."""

    goal: str
    attack_type: AttackType
    access: Access
    knowledge: str
    budget: int


class SourceShare(_Part):
    """How many queries one query source took."""

    name: str
    description: str
    queries: int
    share: float


class CurvePoint(_Part):
    """Agreement of the surrogate after so many queries."""

    queries: int
    agreement: Measured


class ClassView(_Part):
    """One class of the target on the uploaded images."""

    label: int
    samples: int
    """Uploaded images to which the target gives this label."""
    original_accuracy: Measured
    """Target accuracy on the images whose true label is this class."""
    agreement: Measured
    """Share of the samples on which the surrogate answers the same."""
    queries: int
    """Queries to which the target answered this label."""


class Reference(_Part):
    """A public taxonomy entry."""

    id: str
    title: str
    url: str


class VulnerabilityReport(_Part):
    """Result of a model extraction assessment."""

    job: JobInfo
    threat_model: ThreatModel
    original: ModelProfile
    surrogate: ModelProfile
    original_accuracy: Measured
    extracted_accuracy: Measured
    agreement: Measured
    """On the images that score: all uploaded (black box), a held-out part (grey box)."""
    majority_share: float
    """Share of the target's most frequent label among the images that score."""
    score: float
    """Vulnerability score in [0, 1]; see docs/scoring.md."""
    score_interval: Interval
    severity: Severity
    queries_spent: int
    curve: tuple[CurvePoint, ...]
    sources: tuple[SourceShare, ...]
    per_class: tuple[ClassView, ...]
    vulnerability_threshold: float
    defense_recommended: bool
    references: tuple[Reference, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What makes the numbers doubtful, such as labels that do not fit the model."""


class SourceDetection(_Part):
    """Detection of one query source by a detector that never saw it in training."""

    name: str
    auroc: Measured
    tpr: Measured


class EncodingView(_Part):
    """False and true positive rate where images come under one encoding."""

    encoding: str
    fpr: Measured
    tpr: Measured


class Cost(_Part):
    """Latency of detector and model, batch size 1, same process."""

    detector_ms: float
    model_ms: float
    ratio: float
    repeats: int


class DefenseReport(_Part):
    """Result of training and evaluating the detector."""

    job: JobInfo
    detector: ModelProfile
    target_fpr: float
    """False positive rate that the decision threshold was set for."""
    benign_train: int
    benign_calibration: int
    benign_test: int
    attack_train: int
    attack_test: int
    auroc: Measured
    fpr: Measured
    """On held-out benign images, at the shipped threshold."""
    tpr: Measured
    """On held-out queries of this job, at the shipped threshold."""
    tpr_at_fpr_1e2: Measured
    tpr_at_fpr_1e3: Measured
    confusion: tuple[tuple[int, int], tuple[int, int]]
    """Rows: truth (not-attack, attack); columns: decision (not-attack, attack)."""
    roc: tuple[tuple[float, float], ...]
    """(false positive rate, true positive rate), thinned to at most 200 points."""
    unseen: tuple[SourceDetection, ...]
    """Leave-one-source-out."""
    encodings: tuple[EncodingView, ...]
    cost: Cost
    limits: tuple[str, ...]
    """What a per-input detector cannot see."""
    references: tuple[Reference, ...]
    notes: tuple[str, ...] = ()
