"""What whoever holds a signed link may do: upload to one slot, or see one job."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modelward.domain import (
    AccessDeniedError,
    ModelwardError,
    ReportFormat,
    ReportType,
    VulnerabilityReport,
)
from modelward.jobs.audit import AuditTrail, OpenedLinks
from modelward.jobs.links import Links
from modelward.jobs.store import Artifact, Job, JobStore
from modelward.jobs.uploads import Ticket, Uploads
from modelward.storage import BlobStore

__all__ = ["JobView", "Visits"]

_REPORT = f"{ReportType.VULNERABILITY.value}.{ReportFormat.JSON.value}"
_MOST_REPORT_BYTES = 8 * 2**20


@dataclass(frozen=True)
class JobView:
    """What the monitor page shows."""

    job: Job
    artifacts: Mapping[str, Artifact]
    report: VulnerabilityReport | None = None
    """Where the intervals stand; None until it is made, or where this version cannot read it."""


class Visits:
    """Checks links and notes who came through them, and who did not."""

    def __init__(
        self,
        links: Links,
        uploads: Uploads,
        store: JobStore,
        audit: AuditTrail,
        clock: Callable[[], float],
        *,
        blobs: BlobStore,
    ) -> None:
        self._links = links
        self._uploads = uploads
        self._blobs = blobs
        self._store = store
        self._audit = audit
        self._opened = OpenedLinks(clock)

    def admit(self, model_id: str, slot: str, token: str | None) -> Ticket:
        """Check an upload link before any of the body is read; see :meth:`Uploads.admit`."""
        try:
            return self._uploads.admit(model_id, slot, token)
        except AccessDeniedError as error:
            self._audit.refusal("link.refused", subject=model_id, reason=error.message)
            raise

    def reject(self, ticket: Ticket, error: ModelwardError) -> None:
        """Note that what came through an upload link was refused."""
        self._audit.refusal(
            "upload.rejected",
            organisation=ticket.organisation,
            subject=ticket.model_id,
            reason=f"{ticket.slot}: {error.message}",
        )

    def job(self, job_id: str, token: str | None) -> Job:
        """The job that a link opens.

        Raises:
            AccessDeniedError: Missing, altered, foreign or expired token.
            NotFoundError: The job is gone.
        """
        try:
            self._links.check_monitor(job_id, token)
        except AccessDeniedError as error:
            self._audit.refusal("link.refused", subject=job_id, reason=error.message)
            raise
        return self._store.get_unscoped(job_id)

    def view(self, job_id: str, token: str | None) -> JobView:
        """What the page of a job shows; see :meth:`job`."""
        job = self.job(job_id, token)
        if self._opened.first(job.id):
            self._audit.note_reading("link.opened", organisation=job.organisation, subject=job.id)
        made = self._store.artifacts(job.id, job.organisation)
        return JobView(job=job, artifacts=made, report=self._report(made.get(_REPORT)))

    def _report(self, artifact: Artifact | None) -> VulnerabilityReport | None:
        if artifact is None or artifact.size > _MOST_REPORT_BYTES:
            return None
        try:
            found = json.loads(self._blobs.read(artifact.blob))
            known = VulnerabilityReport.model_fields
            return VulnerabilityReport.model_validate({n: found[n] for n in known if n in found})
        except (ModelwardError, ValueError, TypeError):  # removed meanwhile, or another version's
            return None
