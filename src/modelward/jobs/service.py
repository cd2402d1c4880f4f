"""The use cases behind the HTTP calls; each is one method, free of HTTP."""

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelward.domain import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    parse_analysis,
    parse_task,
    sample_payload,
    slots,
)
from modelward.jobs.database import Database, exclusive
from modelward.jobs.dispatcher import WORKER_COMMAND, Dispatcher
from modelward.jobs.downloads import Download, build_download, parse_format, parse_report
from modelward.jobs.gates import Gate, find_gate
from modelward.jobs.links import Links
from modelward.jobs.registrations import Registration, Registrations, Upload
from modelward.jobs.sandboxing import sandbox_options
from modelward.jobs.secrets import load_signer
from modelward.jobs.status import job_detail, job_status
from modelward.jobs.store import Artifact, Job, JobStore
from modelward.jobs.tenants import Credentials, Tenants
from modelward.jobs.uploads import Uploads
from modelward.settings import Settings
from modelward.storage import BlobStore

__all__ = ["AssessmentService", "JobView", "create_organisation"]

_API_VERSION = "1.5"


@dataclass(frozen=True)
class JobView:
    """What the monitor page shows."""

    job: Job
    artifacts: Mapping[str, Artifact]


class AssessmentService:
    """Everything the service does for its callers."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        worker_command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self.settings = settings
        self._database = Database(settings.data)
        self.blobs = BlobStore(settings.data / "blobs")
        self.tenants = Tenants(self._database, settings, clock)
        self.links = Links(settings, load_signer(settings.data), clock)
        self._registrations = Registrations(self._database, clock)
        self.uploads = Uploads(settings.data, self._registrations, self.blobs, self.links)
        self._jobs = JobStore(self._database, clock)
        self._sandbox = sandbox_options(settings)
        self._dispatcher = Dispatcher(
            self._jobs,
            settings.data,
            max_jobs=settings.max_jobs,
            nice=settings.worker_nice,
            command=worker_command,
            sandbox=self._sandbox,
        )
        self._held = contextlib.ExitStack()

    def start(self) -> None:
        """Prepare the database and begin to work.

        Raises:
            ConflictError: Another server works on the same data folder.
        """
        lock = exclusive(self.settings.data / "server.lock", wait=False)
        if not self._held.enter_context(lock):
            raise ConflictError(
                f"data folder {self.settings.data}: expected to be free; another server uses it. "
                "Stop that one, or name another folder with --data"
            )
        self._database.migrate()
        self.uploads.start()
        self._dispatcher.start()

    def stop(self) -> None:
        """Stop job processes and let the data folder go."""
        self._dispatcher.stop()
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
        self, organisation: int, model_id: str, payload: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Check a request and the uploaded files, and queue a job.

        Raises:
            NotFoundError: Unknown model.
            InvalidInputError: Missing or unfit files, malformed values.
            InvalidParameterError: Values that are not allowed.
        """
        registration = self._registrations.get(model_id, organisation)
        gate = find_gate(registration.task, registration.analysis)
        config = gate.parse(payload)
        uploads = self._complete_uploads(registration)
        self._check(gate, config, uploads)
        job_id = f"job-{secrets.token_hex(16)}"
        self._jobs.add(
            job_id=job_id,
            organisation=organisation,
            model_id=registration.id,
            pair=(registration.task.value, registration.analysis.value),
            payload=payload,
            config=config.model_dump(mode="json"),
            inputs={slot: upload.blob for slot, upload in uploads.items()},
            stages=gate.stages,
        )
        self._dispatcher.wake()
        link = self.links.monitor(job_id)
        return {
            **payload,
            "task_type": registration.task.value,
            "analysis_type": registration.analysis.value,
            "model_id": registration.id,
            "job_id": job_id,
            "dashboard_link": link,
            "monitor_link": link,
            "api_version": _API_VERSION,
            "parameters": config.model_dump(mode="json"),
        }

    def _complete_uploads(self, registration: Registration) -> dict[str, Upload]:
        found = self._registrations.uploads(registration.id)
        wanted = slots(registration.task, registration.analysis)
        missing = [slot for slot in wanted if slot not in found]
        if missing:
            raise InvalidInputError(
                f"uploads: expected {', '.join(wanted)}; missing: {', '.join(missing)}. "
                "Send each to its upload URL, then ask for the analysis again"
            )
        return {slot: found[slot] for slot in wanted}

    def _check(self, gate: Gate, config: object, uploads: Mapping[str, Upload]) -> None:
        with contextlib.ExitStack() as stack:
            try:
                archives = {
                    slot: stack.enter_context(self.blobs.local(upload.blob))
                    for slot, upload in uploads.items()
                }
                gate.check(config, archives)
                gate.check_model(config, archives, self._sandbox)
            except (NotFoundError, FileNotFoundError):
                raise ConflictError(
                    "analysis: a file was uploaded again while it was being checked; "
                    "send the analysis request once more"
                ) from None

    def status(self, organisation: int, job_id: str) -> dict[str, Any]:
        """The flat status of a job."""
        return job_status(self._jobs.get(job_id, organisation))

    def detail(self, organisation: int, job_id: str) -> dict[str, Any]:
        """The parameters of a job."""
        return job_detail(self._jobs.get(job_id, organisation))

    def download(
        self, organisation: int | None, job_id: str, report: str | None, wanted: str | None
    ) -> Download:
        """A report or artifact; ``organisation`` None where a signed link already decided."""
        job = self._jobs.get(job_id, organisation)
        kind, file_format = parse_report(report), parse_format(wanted)
        return build_download(job, self._jobs.artifacts(job_id), self.blobs, kind, file_format)

    def view(self, job_id: str) -> JobView:
        """What the page of a job shows; the caller has checked the link."""
        return JobView(job=self._jobs.get(job_id), artifacts=self._jobs.artifacts(job_id))


def create_organisation(settings: Settings, name: str) -> Credentials:
    """Make an organisation in a data folder, beside a running server or without one."""
    database = Database(settings.data)
    try:
        database.migrate()
        return Tenants(database, settings, time.time).create(name)
    finally:
        database.close()
