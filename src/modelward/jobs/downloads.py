"""Reports and artifacts of a job, as files to hand out."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from modelward.domain import (
    ConflictError,
    InvalidInputError,
    InvalidParameterError,
    NotFoundError,
    ReportFormat,
    ReportType,
)
from modelward.jobs.gates import DECLINED
from modelward.jobs.store import Artifact, Job, JobState
from modelward.storage import BlobStore

__all__ = ["Download", "build_download", "parse_format", "parse_report", "ready_downloads"]

_REPORTS = (ReportType.VULNERABILITY, ReportType.DEFENSE)
_OF_DEFENSE = (ReportType.DEFENSE, ReportType.DEFENSE_ARTIFACT)
_MEDIA = {
    "zip": "application/zip",
    "txt": "text/plain; charset=utf-8",
    "pdf": "application/pdf",
    "json": "application/json",
    "xml": "application/xml",
}


@dataclass(frozen=True)
class Download:
    """A file to hand out."""

    filename: str
    media_type: str
    blob: str | None = None
    """Key in the blob store; None where ``content`` holds the file."""
    content: bytes = b""
    size: int = 0
    """Bytes in all."""


def parse_report(spelling: str | None) -> ReportType:
    """Read a ``report_type`` in any case.

    Raises:
        InvalidInputError: Missing.
        InvalidParameterError: Unknown.
    """
    known = ", ".join(ReportType)
    if not spelling:
        raise InvalidInputError(f"report_type: expected one of {known}; it is missing")
    for report in ReportType:
        if report.value.lower() == spelling.strip().lower():
            return report
    raise InvalidParameterError(f"report_type: expected one of {known}; got {spelling[:80]!r}")


def parse_format(spelling: str | None) -> ReportFormat:
    """Read a ``file_format``: its number, or its name; missing means the zip of all.

    Raises:
        InvalidParameterError: Unknown.
    """
    text = (spelling or "0").strip().lower()
    for known in ReportFormat:
        if text in (str(known.wire_id), known.value):
            return known
    choices = ", ".join(f"{known.wire_id} ({known.value})" for known in ReportFormat)
    raise InvalidParameterError(f"file_format: expected one of {choices}; got {text[:80]!r}")


def build_download(
    job: Job,
    made: Mapping[str, Artifact],
    blobs: BlobStore,
    report: ReportType,
    wanted: ReportFormat,
) -> Download:
    """Find or pack the file for a request.

    Args:
        job: The job.
        made: Its artifacts by name.
        blobs: Where they lie.
        report: What is asked for.
        wanted: In which format; artifacts are zip archives whatever is asked for.

    Raises:
        ConflictError: Not there yet, the job still runs.
        NotFoundError: Never made; the message says why.
    """
    stem = f"{report.value}_{job.id[-10:]}"
    if report in _REPORTS and wanted is ReportFormat.ZIP:
        members = {
            f"{report.value}.{kind.value}": made[f"{report.value}.{kind.value}"].blob
            for kind in ReportFormat
            if f"{report.value}.{kind.value}" in made
        }
        if members:
            content = _pack({name: blobs.read(blob) for name, blob in members.items()})
            return Download(f"{stem}.zip", _MEDIA["zip"], content=content, size=len(content))
    kind = wanted if report in _REPORTS else ReportFormat.ZIP
    artifact = made.get(f"{report.value}.{kind.value}")
    if artifact is None:
        raise _absent(job, report)
    return Download(
        f"{stem}.{kind.value}", _MEDIA[kind.value], blob=artifact.blob, size=artifact.size
    )


def _absent(job: Job, report: ReportType) -> ConflictError | NotFoundError:
    if not job.state.ended:
        return ConflictError(
            f"{report.value}: not ready yet, job {job.id} is {job.state.value}; "
            "ask again when job_status_detailed says that it has ended"
        )
    if job.purged is not None:
        return NotFoundError(
            f"{report.value}: the files of job {job.id} were removed because of their age, and the "
            "uploads with them; register the model again, upload and analyse it to have them made"
        )
    if job.state is JobState.CANCELLED:
        return NotFoundError(
            f"{report.value}: not made, job {job.id} was cancelled on request; "
            "send the analysis request again to have it made"
        )
    if job.state is JobState.FAILED:
        return NotFoundError(f"{report.value}: not made, job {job.id} failed: {job.message}")
    if job.message == DECLINED and report in _OF_DEFENSE:
        return NotFoundError(
            f"{report.value}: not made, the vulnerability score did not exceed the threshold "
            f"({DECLINED}). Use a lower vulnerability_threshold, 0 always makes a defence"
        )
    return NotFoundError(f"{report.value}: job {job.id} made none in this format")


def _pack(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def ready_downloads(made: Mapping[str, Artifact]) -> list[tuple[ReportType, ReportFormat]]:
    """What can be handed out now, in the order of a page."""
    ready = []
    for report in ReportType:
        kinds = [kind for kind in ReportFormat if f"{report.value}.{kind.value}" in made]
        if report in _REPORTS and kinds:
            kinds = [*[kind for kind in kinds if kind is not ReportFormat.ZIP], ReportFormat.ZIP]
        ready += [(report, kind) for kind in kinds]
    return ready
