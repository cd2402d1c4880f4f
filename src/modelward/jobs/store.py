"""Durable jobs: the queue in front of the workers."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, insert, select, update

from modelward.domain import ConflictError, Stage, StageStatus
from modelward.jobs import audit
from modelward.jobs.progress import JobProgress
from modelward.jobs.queue import QueueLimits, RequestKey, next_waiting, require_room
from modelward.jobs.records import Artifact, Job, JobState, job_of
from modelward.jobs.registrations import uploads_in
from modelward.jobs.scope import owned_by
from modelward.jobs.tables import jobs, organisations, registrations

__all__ = ["CANCELLED", "Artifact", "Job", "JobState", "JobStore"]

CANCELLED = "The job was cancelled on request"


class JobStore(JobProgress):
    """Keeps jobs from the request to the end; see ``JobProgress`` for its arguments."""

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
        limits: QueueLimits | None = None,
        key: RequestKey | None = None,
    ) -> str:
        """Queue a job and close the uploads of its model, in one step that survives a power cut.

        Args:
            job_id: Id of the new job.
            organisation: Whose it is.
            model_id: What it assesses.
            pair: Task and analysis.
            payload: The request as it came.
            config: The parameters in force.
            inputs: Blob key by slot.
            stages: The job's stages in order.
            limits: How many jobs may wait; None: any number.
            key: Of a request that may come twice.

        Returns:
            ``job_id``, or the id of the job that an earlier request with the same key made.

        Raises:
            ConflictError: A file was replaced since ``inputs`` was checked.
            TooManyRequestsError: The queue is full.
            InvalidParameterError: The key came with another request before.
        """
        now = self._clock()
        with self._database.write(durable=True) as connection:
            if key and (earlier := key.find(connection, organisation, model_id, now)):
                return earlier
            held = uploads_in(connection, model_id, organisation)
            current = {slot: item.blob for slot, item in held.items()}
            if any(current.get(slot) != blob for slot, blob in inputs.items()):
                raise ConflictError(
                    "analysis: a file was uploaded again while it was being checked; "
                    "send the analysis request once more"
                )
            if limits:
                require_room(connection, organisation, limits)
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
                connection,
                "analysis.started",
                now=now,
                organisation=organisation,
                subject=job_id,
                detail={"model_id": model_id, "pair": list(pair)},
            )
            if key:
                key.keep(connection, organisation, model_id, job_id, now)
        return job_id

    def repeated(self, organisation: int, model_id: str, key: RequestKey) -> str | None:
        """The job that an earlier request with the same key made.

        Raises:
            InvalidParameterError: The key came with another request before.
        """
        with self._database.write() as connection:
            return key.find(connection, organisation, model_id, self._clock())

    def claim(self) -> Job | None:
        """Take the next waiting job, mark it running and count the attempt."""
        now = self._clock()
        with self._database.write() as connection:
            row = next_waiting(connection, now)
            if row is None:
                return None
            connection.execute(
                update(organisations)
                .where(organisations.c.id == row.organisation_id)
                .values(served=now)
            )
            self._change(
                connection,
                row.id,
                {
                    "state": JobState.RUNNING,
                    "started": row.started or now,
                    "attempts": row.attempts + 1,
                    "not_before": None,
                    "message": "Starting",
                },
            )
        return self.get_unscoped(row.id)

    def requeue(
        self, job_id: str, message: str, *, counts: bool, ran: float = 0.0, delay: float = 0.0
    ) -> bool:
        """Let a running job wait for another worker, at its old place.

        Args:
            job_id: The job.
            message: Why.
            counts: Whether the attempt that ended counts.
            ran: Wall time of that attempt in seconds.
            delay: Seconds before it may be started again.

        Returns:
            Whether it was running.
        """
        waiting = {StageStatus.IN_PROGRESS: StageStatus.NA}
        with self._database.write() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
            if row is None or row.state != JobState.RUNNING:
                return False
            stages = {name: waiting.get(status, status) for name, status in row.stages.items()}
            self._change(
                connection,
                job_id,
                {
                    "state": JobState.QUEUED,
                    "stages": stages,
                    "message": message,
                    "attempts": row.attempts - (0 if counts else 1),
                    "ran_seconds": row.ran_seconds + ran,
                    "not_before": self._clock() + delay if delay else None,
                },
            )
        return True

    def cancel(self, job_id: str, organisation: int) -> Job:
        """End a job of an organisation on request; a second request changes nothing.

        Raises:
            NotFoundError: Unknown id, or one of another organisation.
            ConflictError: The job has ended by itself.
        """
        self.get(job_id, organisation)
        return self.cancel_unscoped(job_id)

    def cancel_unscoped(self, job_id: str) -> Job:
        """End any job, on the operator's request; see :meth:`cancel`."""
        self.get_unscoped(job_id)
        self.fail(job_id, CANCELLED, state=JobState.CANCELLED)
        job = self.get_unscoped(job_id)
        if job.state is not JobState.CANCELLED:
            raise ConflictError(
                f"job {job_id}: expected a waiting or running job; it has ended "
                f"({job.state.value}: {job.message[:200]})"
            )
        return job

    def running(self) -> list[str]:
        """Ids of the jobs marked running."""
        with self._database.read() as connection:
            return list(
                connection.execute(
                    select(jobs.c.id).where(jobs.c.state == JobState.RUNNING)
                ).scalars()
            )

    def states(self, job_ids: list[str]) -> dict[str, JobState]:
        """State by id; unknown ids are absent."""
        with self._database.read() as connection:
            rows = connection.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(job_ids)))
            return {row.id: JobState(row.state) for row in rows}

    def counts_unscoped(self) -> dict[JobState, int]:
        """Number of jobs by state."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(jobs.c.state, func.count().label("jobs")).group_by(jobs.c.state)
            )
            return {JobState(row.state): int(row.jobs) for row in rows}

    def unannounced(self) -> list[Job]:
        """Jobs whose end nobody was told of yet, in the order in which they ended."""
        ended = [state for state in JobState if state.ended]
        with self._database.read() as connection:
            rows = connection.execute(
                select(jobs)
                .where(jobs.c.announced.is_(None), jobs.c.state.in_(ended))
                .order_by(jobs.c.finished)
                .limit(100)
            )
            return [job_of(row) for row in rows]

    def announced(self, job_id: str) -> None:
        """Note that the end of a job was told."""
        with self._database.write() as connection:
            self._change(connection, job_id, {"announced": self._clock()})
