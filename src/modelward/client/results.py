"""What the SDK's calls return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from modelward.domain import Severity, Stage, StageStatus, UploadDialect

__all__ = [
    "Assessment",
    "AssessmentFiles",
    "Job",
    "JobStatus",
    "Phase",
    "Progress",
    "Registration",
    "UploadTarget",
]

NO_DEFENSE = "Defense generation is not triggered"
_DONE = frozenset({StageStatus.COMPLETED, StageStatus.PASSED})
_FINAL_TEXTS = frozenset({NO_DEFENSE.lower(), "completed", "report is generated"})


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where one file goes. The URL carries a token, so it stays out of ``repr``."""

    slot: str
    """``data``, ``label``, ``model``, ...: the key of the answer without ``_upload_url``."""
    dialect: UploadDialect
    url: str = field(repr=False)
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Form fields sent before the file (multipart dialect only)."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Answer to ``register``: a model id, places for its files, a sample analysis request."""

    model_id: str
    targets: Mapping[str, UploadTarget]
    sample_payload: Mapping[str, Any]

    @property
    def urls(self) -> dict[str, str]:
        """Upload URL by slot; each is a secret until it expires."""
        return {slot: target.url for slot, target in self.targets.items()}


@dataclass(frozen=True, slots=True)
class Job:
    """Answer to ``analyse``."""

    job_id: str
    model_id: str
    monitor_link: str = field(repr=False)
    """Page with the job's progress; it carries a view token, so share it deliberately."""
    answer: Mapping[str, Any] = field(repr=False)
    """The whole answer, with the echo of the parameters."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """State of a job at one moment."""

    job_id: str
    stages: Mapping[Stage, StageStatus]
    current: str
    """What the service says it is doing, or why the job failed."""
    score: float | None
    """Vulnerability score in [0, 1], rounded to two decimals; None until it is measured."""
    original_accuracy: float | None
    """Accuracy of the uploaded model on the uploaded data; None until it is measured."""
    progress: float
    """Share of the work that is done, in [0, 1]; an estimate."""

    @classmethod
    def from_wire(cls, job_id: str, answer: Mapping[str, Any]) -> Self:
        """Read the flat JSON of ``job_status_detailed``; unknown stage values count as ``na``."""
        stages = {stage: _stage_status(answer.get(stage.value)) for stage in Stage}
        progress = _number(answer.get("Progress", answer.get("progress")))
        if progress is None:
            active = [s for s in stages.values() if s is not StageStatus.NA]
            progress = sum(s in _DONE for s in active) / max(len(active), 1)
        return cls(
            job_id=job_id,
            stages=stages,
            current=str(answer.get("CurrentStatus", "")),
            score=_number(answer.get("VulnerabiltyScore")),
            original_accuracy=_number(answer.get("OriginalModelAccuracy")),
            progress=min(max(progress, 0.0), 1.0),
        )

    @property
    def failed(self) -> bool:
        """Whether the job ended without a result; ``current`` says why."""
        return StageStatus.FAILED in self.stages.values()

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen, for better or worse."""
        return (
            self.failed
            or self.stages[Stage.DEFENSE_REPORT] is StageStatus.COMPLETED
            or self.stages[Stage.SUPPLY_CHAIN] is StageStatus.COMPLETED
            or self.current.strip().lower() in _FINAL_TEXTS
        )

    @property
    def defense_made(self) -> bool | None:
        """Whether a defence was made; None while that is open, and when the job failed."""
        if self.failed:
            return None
        if self.stages[Stage.DEFENSE_REPORT] is StageStatus.COMPLETED:
            return True
        return False if self.finished else None


class Phase(StrEnum):
    """Steps of ``Client.assess``, in order."""

    PREPARE = "prepare"
    UPLOAD = "upload"
    ANALYSE = "analyse"
    DOWNLOAD = "download"


@dataclass(frozen=True, slots=True)
class Progress:
    """What ``Client.assess`` tells its progress callback."""

    phase: Phase
    message: str
    fraction: float
    """Share of the phase that is done, in [0, 1]."""
    status: JobStatus | None = None
    """The job's status (phase ``analyse`` only)."""
    job: Job | None = None
    """The job, as soon as there is one."""


class AssessmentFiles(BaseModel):
    """Folders with what was downloaded; None where the job made no such thing."""

    model_config = ConfigDict(frozen=True)

    vulnerability_report: Path
    """Holds ``Vulnerability.json``, ``.txt``, ``.xml``, ``.pdf``."""
    defense_report: Path | None = None
    """Holds ``Defense.json`` and the other formats."""
    attack_samples: Path | None = None
    """Images that were sent as queries."""
    defense_artifact: Path | None = None
    """Holds ``predict.py`` and the detector."""
    surrogate_model: Path | None = None
    """Holds the stolen copy, for the model's owner to check."""


class Assessment(BaseModel):
    """Result of a whole assessment."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    model_id: str
    score: float
    """Vulnerability score in [0, 1]; docs/scoring.md explains it."""
    severity: Severity
    original_accuracy: float | None
    """Accuracy of the assessed model on the uploaded data, in [0, 1]."""
    extracted_accuracy: float | None
    """Accuracy of the stolen copy on the same data, in [0, 1]."""
    agreement: float | None
    """Share of inputs on which copy and original answer the same, in [0, 1]."""
    queries_spent: int | None
    defense_due: bool
    """Whether the threshold asks for a defence."""
    defense_made: bool
    defense_tpr: float | None = None
    """Share of held-out queries that the detector recognises."""
    defense_fpr: float | None = None
    """Share of held-out benign inputs that the detector takes for an attack."""
    seconds: float
    """Wall time from first upload to last download."""
    monitor_link: str
    output: Path
    files: AssessmentFiles
    intervals: dict[str, tuple[float, float]] = {}
    """95 % interval of a number above, by its name; missing where the report has none."""
    samples: int | None = None
    """Uploaded images on which the copy was scored."""
    inferred: dict[str, str] = {}
    """Parameters that were not given, with the value and where it was read from."""
    warnings: tuple[str, ...] = ()
    """What makes the numbers doubtful, such as labels that do not fit the model."""
    problems: tuple[str, ...] = ()
    """What is missing from the result; empty for a complete assessment."""

    @property
    def complete(self) -> bool:
        """Whether everything that was due was made and downloaded."""
        return not self.problems

    def at_least(self, severity: Severity) -> bool:
        """Whether the severity of this result is ``severity`` or worse."""
        order = list(Severity)
        return order.index(self.severity) >= order.index(severity)


def _stage_status(value: object) -> StageStatus:
    try:
        return StageStatus(str(value).strip().lower())
    except ValueError:
        return StageStatus.NA


def _number(value: object) -> float | None:
    """Read ``"0.97"``, ``0.97``, ``"97%"``; None for ``na`` and everything else."""
    if isinstance(value, bool) or value is None:
        return None
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        return None
    return number / 100 if text.endswith("%") else number
