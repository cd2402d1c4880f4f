"""The use cases behind the HTTP calls; each is one method, free of HTTP."""

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelward.domain import (
    ConflictError,
    InvalidInputError,
    parse_analysis,
    parse_task,
    sample_payload,
)
from modelward.jobs.alerts import Alerts
from modelward.jobs.analyses import Analyses
from modelward.jobs.audit import AuditTrail
from modelward.jobs.database import Database, check_database, exclusive
from modelward.jobs.deletion import Removed, delete_model
from modelward.jobs.dispatcher import WORKER_COMMAND, Dispatcher
from modelward.jobs.downloads import Download, build_download, parse_format, parse_report
from modelward.jobs.gates import find_gate
from modelward.jobs.keys import Keys
from modelward.jobs.links import Links
from modelward.jobs.queue import QueueLimits
from modelward.jobs.readiness import Readiness
from modelward.jobs.registrations import Registrations
from modelward.jobs.retention import Housekeeper
from modelward.jobs.sandboxing import sandbox_options
from modelward.jobs.signing import SigningKeys
from modelward.jobs.status import job_detail, job_status
from modelward.jobs.store import Job, JobState, JobStore
from modelward.jobs.tenants import Tenants
from modelward.jobs.uploads import Uploads
from modelward.jobs.visits import Visits
from modelward.settings import Settings, shown_settings
from modelward.storage import BlobStore, disk_errors, make_folder

__all__ = ["AssessmentService"]


class AssessmentService:
    """Everything the service does for its callers.

    Raises:
        UnavailableError: The data folder cannot be written, or its database is damaged; the
            message says what to do.
        ConflictError: Another server works on the same data folder.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        worker_command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.alerts = Alerts(settings, clock=clock)
        check_folder(settings)
        self._database = Database(settings.data, wait_seconds=settings.database_wait_seconds)
        self.blobs = BlobStore(settings.data / "blobs")
        self.tenants = Tenants(self._database, settings, clock)
        self.keys = Keys(self._database, clock)
        self.audit = AuditTrail(self._database, clock)
        signing = SigningKeys(settings.data, longest_life=settings.longest_link_life, clock=clock)
        self.links = Links(settings, signer=signing, clock=clock)
        self._registrations = Registrations(self._database, clock)
        self.uploads = Uploads(
            settings.data,
            self._registrations,
            self.blobs,
            self.links,
            reserve=settings.disk_reserve_bytes,
        )
        self._jobs = JobStore(self._database, clock)
        sandbox = sandbox_options(settings)
        self._dispatcher = Dispatcher(self._jobs, settings, command=worker_command, sandbox=sandbox)
        self.analyses = Analyses(
            self._registrations,
            self._jobs,
            self.blobs,
            self.links,
            limits=QueueLimits(settings.queue_max_jobs, settings.queue_max_jobs_per_organisation),
            sandbox=sandbox,
            wake=self._dispatcher.wake,
        )
        self._housekeeper = Housekeeper(self._database, self.blobs, settings, clock)
        self.readiness = Readiness(
            self._database,
            settings.data,
            floor=settings.disk_free_floor_bytes,
            dispatching=lambda: self._dispatcher.alive,
        )
        self.visits = Visits(
            self.links, self.uploads, self._jobs, self.audit, clock, blobs=self.blobs
        )
        self._held = contextlib.ExitStack()

    def start(self) -> None:
        """Prepare the database and begin to work.

        Raises:
            ConflictError: Another server works on the same data folder.
        """
        if not self._held.enter_context(_server_lock(self.settings)):
            raise _taken(self.settings)
        self._database.migrate()
        self.audit.note("server.started", detail=shown_settings(self.settings))
        self.uploads.start()
        self.alerts.start()
        self._dispatcher.on_end.append(self.alerts.ended)
        self._dispatcher.start()
        self._housekeeper.start()

    @property
    def on_end(self) -> list[Callable[[Job], None]]:
        """Whom to tell of every job that has ended; see ``Dispatcher.on_end``."""
        return self._dispatcher.on_end

    def stop(self) -> None:
        """Send job processes home and let the data folder go."""
        # Jobs first: a collection of garbage may take its time, and whoever stops us has little.
        self._dispatcher.stop()
        self._housekeeper.stop()
        self.alerts.stop()
        self._database.close()
        self._held.close()

    def register(self, organisation: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Register a model for one analysis.

        Raises:
            InvalidInputError: A key is missing.
            InvalidParameterError: Unknown task or analysis, or a pair that is not supported.
        """
        for key in ("task_type", "analysis_type"):
            if key not in request:
                raise InvalidInputError(f"{key}: expected in the request; it is missing")
        task, dialect = parse_task(request["task_type"])
        analysis = parse_analysis(request["analysis_type"])
        find_gate(task, analysis)
        registration = self._registrations.add(organisation, task, analysis, dialect)
        return {
            "model_id": registration.id,
            "urls": self.uploads.urls(registration),
            "model_analysis_payload": sample_payload(task, analysis, dialect),
        }

    def analyse(
        self,
        organisation: int,
        model_id: str,
        payload: Mapping[str, Any],
        key: str | None = None,
    ) -> dict[str, Any]:
        """Check a request and the uploaded files, and queue a job; see :class:`Analyses`."""
        request = self.analyses.read(organisation, model_id, payload, key)
        self.analyses.check(request)
        return self.analyses.queue(request)

    def status(self, organisation: int, job_id: str) -> dict[str, Any]:
        """The flat status of a job."""
        return job_status(self._jobs.get(job_id, organisation))

    def detail(self, organisation: int, job_id: str) -> dict[str, Any]:
        """The parameters of a job."""
        return job_detail(self._jobs.get(job_id, organisation))

    def cancel(self, organisation: int, job_id: str) -> dict[str, Any]:
        """End a job on request: at once where it waits, within seconds where it runs.

        Raises:
            NotFoundError: Unknown job.
            ConflictError: It has ended by itself.
        """
        job = self._jobs.cancel(job_id, organisation)
        self._dispatcher.wake()
        return job_status(job)

    def delete(self, organisation: int, model_id: str) -> Removed:
        """Remove a model with its uploads, its jobs and everything that they made.

        Raises:
            NotFoundError: Unknown model.
            ConflictError: One of its jobs waits or runs.
        """
        registration = self._registrations.get(model_id, organisation)
        return delete_model(
            self._database,
            self.blobs,
            self.settings.data,
            registration.id,
            organisation=organisation,
            now=self.clock(),
        )

    def download(
        self, organisation: int, job_id: str, report: str | None, wanted: str | None
    ) -> Download:
        """A report or artifact of an organisation's job."""
        return self._download(self._jobs.get(job_id, organisation), report, wanted)

    def download_by_link(
        self, job_id: str, token: str | None, report: str | None, wanted: str | None
    ) -> Download:
        """A report or artifact for whoever holds the signed link to the job."""
        return self._download(self.visits.job(job_id, token), report, wanted)

    def _download(self, job: Job, report: str | None, wanted: str | None) -> Download:
        kind, file_format = parse_report(report), parse_format(wanted)
        made = self._jobs.artifacts(job.id, job.organisation)
        found = build_download(job, made, self.blobs, kind, file_format)
        self.audit.note_reading(
            "download",
            organisation=job.organisation,
            subject=job.id,
            detail={"file": found.filename},
        )
        return found

    def job_counts(self) -> dict[str, int]:
        """Jobs of all organisations by state, for the operator's metrics."""
        counts = self._jobs.counts_unscoped()
        return {state.value: counts.get(state, 0) for state in JobState}


def check_folder(settings: Settings) -> None:
    """Look whether the data folder can be used, before anything is done in it.

    Raises:
        UnavailableError: It cannot be written, or its database is damaged.
        ConflictError: Another server works on it.
    """
    data = settings.data
    make_folder(data)
    with disk_errors():
        probe = data / f".probe-{secrets.token_hex(6)}"
        probe.write_bytes(b"modelward")
        probe.unlink()
    with _server_lock(settings) as free:
        if not free:
            raise _taken(settings)
        check_database(data)


def _server_lock(settings: Settings) -> contextlib.AbstractContextManager[bool]:
    return exclusive(settings.data / "server.lock", wait=False)


def _taken(settings: Settings) -> ConflictError:
    return ConflictError(
        f"data folder {settings.data}: expected to be free; another server uses it. Stop that "
        "one, or name another folder with --data"
    )
