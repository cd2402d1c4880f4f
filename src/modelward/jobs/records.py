"""A job and its files as they are read from the database."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from modelward.domain import Stage, StageStatus

__all__ = ["Artifact", "Job", "JobState", "job_of"]


class JobState(StrEnum):
    """Life of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Ended on request; its stages read like those of a failed job."""

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Job:
    """A snapshot of one job."""

    id: str
    organisation: int
    model_id: str
    task: str
    analysis: str
    payload: dict[str, Any]
    """The request as it came."""
    config: dict[str, Any]
    """The parameters in force."""
    inputs: dict[str, str]
    """Blob key by slot."""
    state: JobState
    stages: dict[Stage, StageStatus]
    """The job's own stages, in their order."""
    stage_seconds: dict[str, float]
    message: str
    progress: float
    """Share of the work that is done, 0 to 1."""
    score: float | None
    original_accuracy: float | None
    created: float
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    """Workers that were started for it, but for those that an orderly stop sent home."""
    ran_seconds: float = 0.0
    """Wall time of earlier attempts."""
    purged: float | None = None
    """When retention removed its files."""


@dataclass(frozen=True)
class Artifact:
    """A file that a job made."""

    name: str
    blob: str
    size: int


def job_of(row: Row[Any]) -> Job:
    """Read a row of the table of jobs."""
    return Job(
        id=row.id,
        organisation=row.organisation_id,
        model_id=row.registration_id,
        task=row.task,
        analysis=row.analysis,
        payload=row.payload,
        config=row.config,
        inputs=row.inputs,
        state=JobState(row.state),
        stages={Stage(name): StageStatus(status) for name, status in row.stages.items()},
        stage_seconds=row.stage_seconds,
        message=row.message,
        progress=row.progress,
        score=row.score,
        original_accuracy=row.original_accuracy,
        created=row.created,
        started=row.started,
        finished=row.finished,
        attempts=row.attempts,
        ran_seconds=row.ran_seconds,
        purged=row.purged,
    )
