"""Durable jobs: the queue, their progress and their artifacts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from modelward.domain import ConflictError, NotFoundError, Stage, StageStatus
from modelward.jobs import audit
from modelward.jobs.database import Database
from modelward.jobs.registrations import uploads_in
from modelward.jobs.scope import owned_by
from modelward.jobs.tables import artifacts, jobs, registrations

__all__ = ["Artifact", "Job", "JobState", "JobStore"]

_DONE = {StageStatus.COMPLETED, StageStatus.PASSED}


class JobState(StrEnum):
    """Life of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self in (JobState.SUCCEEDED, JobState.FAILED)


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


@dataclass(frozen=True)
class Artifact:
    """A file that a job made."""

    name: str
    blob: str
    size: int


class JobStore:
    """Keeps jobs; a job that has ended is never changed again."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        *,
        job_id: str,
        organisation: int,
        model_id: str,
        pair: tuple[str, str],
        payload: Mapping[str, Any],
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        stages: tuple[Stage, ...],
    ) -> None:
        """Queue a job and close the uploads of its model, in one step.

        Raises:
            ConflictError: A file was replaced since ``inputs`` was checked.
        """
        now = self._clock()
        with self._database.write() as connection:
            held = uploads_in(connection, model_id, organisation)
            current = {slot: item.blob for slot, item in held.items()}
            if any(current.get(slot) != blob for slot, blob in inputs.items()):
                raise ConflictError(
                    "analysis: a file was uploaded again while it was being checked; "
                    "send the analysis request once more"
                )
            connection.execute(
                update(registrations)
                .where(registrations.c.id == model_id, registrations.c.locked.is_(None))
                .where(owned_by(registrations, organisation))
                .values(locked=now)
            )
            connection.execute(
                insert(jobs).values(
                    id=job_id,
                    organisation_id=organisation,
                    registration_id=model_id,
                    task=pair[0],
                    analysis=pair[1],
                    payload=dict(payload),
                    config=dict(config),
                    inputs=dict(inputs),
                    state=JobState.QUEUED,
                    stages={stage.value: StageStatus.NA.value for stage in stages},
                    stage_seconds={},
                    message="Waiting for a free worker",
                    progress=0.0,
                    created=now,
                )
            )
            audit.append(
                connection, "analysis.started", now=now, organisation=organisation,
                subject=job_id, detail={"model_id": model_id, "pair": list(pair)},
            )  # fmt: skip

    def get(self, job_id: str, organisation: int) -> Job:
        """Look a job of an organisation up.

        Raises:
            NotFoundError: Unknown id, or one of another organisation.
        """
        return self._find(job_id, owned_by(jobs, organisation))

    def get_unscoped(self, job_id: str) -> Job:
        """Look a job up for its worker, or for whoever holds a signed link to it.

        Raises:
            NotFoundError: Unknown id.
        """
        return self._find(job_id)

    def _find(self, job_id: str, *conditions: ColumnElement[bool]) -> Job:
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id, *conditions)).first()
        if row is None:
            raise NotFoundError(f"job_id: expected the id of a job; got {job_id[:80]!r}")
        return _job(row)

    def claim(self) -> Job | None:
        """Take the oldest waiting job and mark it running."""
        with self._database.write() as connection:
            row = connection.execute(
                select(jobs)
                .where(jobs.c.state == JobState.QUEUED)
                .order_by(jobs.c.created)
                .limit(1)
            ).first()
            if row is None:
                return None
            connection.execute(
                update(jobs)
                .where(jobs.c.id == row.id)
                .values(state=JobState.RUNNING, started=self._clock(), message="Starting")
            )
        return self.get_unscoped(row.id)

    def running(self) -> list[str]:
        """Ids of the jobs marked running."""
        with self._database.read() as connection:
            return list(
                connection.execute(
                    select(jobs.c.id).where(jobs.c.state == JobState.RUNNING)
                ).scalars()
            )

    def counts_unscoped(self) -> dict[str, int]:
        """Jobs of all organisations by state."""
        with self._database.read() as connection:
            rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
            return {state.value: 0 for state in JobState} | {row[0]: row[1] for row in rows}

    def set_stage(
        self,
        job_id: str,
        stage: Stage,
        status: StageStatus,
        *,
        message: str,
        seconds: float | None = None,
        progress: float | None = None,
    ) -> None:
        """Record that a stage began or ended."""
        with self._database.write() as connection:
            job = self._open(connection, job_id)
            values: dict[str, Any] = {
                "stages": {**job.stages, stage: status},
                "message": message,
            }
            if seconds is not None:
                values["stage_seconds"] = {**job.stage_seconds, stage.value: seconds}
            if progress is not None:
                values["progress"] = progress
            self._change(connection, job_id, values)

    def report(self, job_id: str, **values: Any) -> None:
        """Set any of progress, message, score, original_accuracy of a running job."""
        with self._database.write() as connection:
            self._open(connection, job_id)
            self._change(connection, job_id, values)

    def succeed(self, job_id: str, message: str, *, skipped: Stage | None = None) -> None:
        """End a job well; ``skipped`` names a stage that was not called for."""
        with self._database.write() as connection:
            job = self._open(connection, job_id)
            stages = dict(job.stages)
            if skipped is not None:
                stages[skipped] = StageStatus.NA
            self._change(
                connection,
                job_id,
                {
                    "state": JobState.SUCCEEDED,
                    "stages": stages,
                    "message": message,
                    "progress": 1.0,
                    "finished": self._clock(),
                },
            )
            self._note_end(connection, job, JobState.SUCCEEDED, message)

    def fail(self, job_id: str, message: str) -> bool:
        """End a job badly: the stage at work and all later ones are marked failed.

        Returns:
            Whether the job was still open.
        """
        with self._database.write() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
            if row is None or _job(row).state.ended:
                return False
            reached, stages = False, {}
            for stage, status in _job(row).stages.items():
                reached = reached or status not in _DONE
                stages[stage] = StageStatus.FAILED if reached else status
            self._change(
                connection,
                job_id,
                {
                    "state": JobState.FAILED,
                    "stages": stages,
                    "message": message,
                    "finished": self._clock(),
                },
            )
            self._note_end(connection, _job(row), JobState.FAILED, message)
        return True

    def add_artifact(self, job_id: str, artifact: Artifact) -> None:
        """Record a file of a running job, replacing one of the same name."""
        with self._database.write() as connection:
            self._open(connection, job_id)
            values = {"blob": artifact.blob, "size": artifact.size, "created": self._clock()}
            mine = (artifacts.c.job_id == job_id) & (artifacts.c.name == artifact.name)
            if not connection.execute(update(artifacts).where(mine).values(**values)).rowcount:
                connection.execute(
                    insert(artifacts).values(job_id=job_id, name=artifact.name, **values)
                )

    def artifacts(self, job_id: str, organisation: int) -> dict[str, Artifact]:
        """Files of an organisation's job by name."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(artifacts).where(
                    artifacts.c.job_id == job_id, owned_by(artifacts, organisation)
                )
            )
            return {row.name: Artifact(row.name, row.blob, row.size) for row in rows}

    def _open(self, connection: Connection, job_id: str) -> Job:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
        if row is None or row.state != JobState.RUNNING:
            raise ConflictError(f"job {job_id}: expected a running job; it has ended")
        return _job(row)

    def _note_end(self, connection: Connection, job: Job, state: JobState, message: str) -> None:
        audit.append(
            connection, "job.ended", now=self._clock(), organisation=job.organisation,
            subject=job.id, detail={"state": state.value, "message": message[:500]},
        )  # fmt: skip

    def _change(self, connection: Connection, job_id: str, values: Mapping[str, Any]) -> None:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def _job(row: Row[Any]) -> Job:
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
    )
