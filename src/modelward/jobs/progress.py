"""What a worker writes about its job."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from modelward.domain import ConflictError, NotFoundError, Stage, StageStatus
from modelward.jobs import audit
from modelward.jobs.database import Database
from modelward.jobs.records import Artifact, Job, JobState, job_of
from modelward.jobs.scope import owned_by
from modelward.jobs.tables import artifacts, jobs

__all__ = ["DONE", "JobProgress"]

DONE = frozenset({StageStatus.COMPLETED, StageStatus.PASSED})
"""States of a finished stage."""


class JobProgress:
    """Progress and end of jobs; a job that has ended is never changed again.

    Args:
        database: Where they are kept.
        clock: Seconds since 1970.
        attempt: In a worker the number of its attempt. It may write only while no later attempt
            was started: a worker that was believed dead cannot spoil the work of the next one.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float], *, attempt: int | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._attempt = attempt

    def get(self, job_id: str, organisation: int) -> Job:
        """Look a job of an organisation up.

        Raises:
            NotFoundError: Unknown id, or one of another organisation.
        """
        return self._find(job_id, owned_by(jobs, organisation))

    def get_unscoped(self, job_id: str) -> Job:
        """Look a job up for its worker, the dispatcher, or whoever holds a signed link to it.

        Raises:
            NotFoundError: Unknown id.
        """
        return self._find(job_id)

    def _find(self, job_id: str, *conditions: ColumnElement[bool]) -> Job:
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id, *conditions)).first()
        if row is None:
            raise NotFoundError(f"job_id: expected the id of a job; got {job_id[:80]!r}")
        return job_of(row)

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
        """Record that a stage began or ended; where one begins, all later ones are to be run."""
        with self._database.write() as connection:
            job = self._open(connection, job_id)
            stages = {**job.stages, stage: status}
            if status is StageStatus.IN_PROGRESS:
                later = list(stages)[list(stages).index(stage) + 1 :]
                stages |= dict.fromkeys(later, StageStatus.NA)
            values: dict[str, Any] = {
                "stages": stages,
                "message": message,
            }
            if seconds is not None:
                values["stage_seconds"] = {**job.stage_seconds, stage.value: seconds}
            if progress is not None:
                values["progress"] = max(job.progress, progress)
            self._change(connection, job_id, values)

    def report(self, job_id: str, **values: Any) -> None:
        """Set any of progress, message, score, original_accuracy of a running job.

        Progress never goes back: where another attempt does work again, it stands still.
        """
        with self._database.write() as connection:
            job = self._open(connection, job_id)
            if "progress" in values:
                values["progress"] = max(job.progress, values["progress"])
            self._change(connection, job_id, values)

    def succeed(self, job_id: str, message: str, *, skipped: Stage | None = None) -> None:
        """End a job well; ``skipped`` names a stage that was not called for."""
        with self._database.write(durable=True) as connection:
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

    def fail(self, job_id: str, message: str, *, state: JobState = JobState.FAILED) -> bool:
        """End a job badly: the stage at work and all later ones are marked failed.

        Args:
            job_id: The job.
            message: The reason.
            state: Failed, or cancelled.

        Returns:
            Whether the job was still open.
        """
        with self._database.write(durable=True) as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
            if row is None or job_of(row).state.ended or not self._mine(job_of(row)):
                return False
            reached, stages = False, {}
            for stage, status in job_of(row).stages.items():
                reached = reached or status not in DONE
                stages[stage] = StageStatus.FAILED if reached else status
            if not reached:  # between its last stage and its end: no reader would see a failure
                stages[next(reversed(stages))] = StageStatus.FAILED
            self._change(
                connection,
                job_id,
                {
                    "state": state,
                    "stages": stages,
                    "message": message,
                    "finished": self._clock(),
                },
            )
            self._note_end(connection, job_of(row), state, message)
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
        own = owned_by(artifacts, organisation)
        with self._database.read() as connection:
            rows = connection.execute(select(artifacts).where(artifacts.c.job_id == job_id, own))
            return {row.name: Artifact(row.name, row.blob, row.size) for row in rows}

    def _mine(self, job: Job) -> bool:
        return self._attempt is None or job.attempts == self._attempt

    def _open(self, connection: Connection, job_id: str) -> Job:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
        if row is None or row.state != JobState.RUNNING or not self._mine(job_of(row)):
            raise ConflictError(f"job {job_id}: expected a running job; it has ended")
        return job_of(row)

    def _note_end(self, connection: Connection, job: Job, state: JobState, message: str) -> None:
        audit.append(
            connection,
            "job.ended",
            now=self._clock(),
            organisation=job.organisation,
            subject=job.id,
            detail={"state": state.value, "message": message[:500]},
        )

    def _change(self, connection: Connection, job_id: str, values: Mapping[str, Any]) -> None:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
