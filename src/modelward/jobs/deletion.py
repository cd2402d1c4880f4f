"""Removal of a model with everything that was uploaded for it and made from it."""

import math
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, select

from modelward.domain import ConflictError, NotFoundError
from modelward.jobs import audit
from modelward.jobs.checkpoints import checkpoint_folder
from modelward.jobs.database import Database
from modelward.jobs.records import JobState
from modelward.jobs.scope import owned_by
from modelward.jobs.tables import artifacts, idempotency_keys, jobs, registrations, uploads
from modelward.storage import Blob, BlobStore

__all__ = ["Removed", "delete_model", "remove_blobs", "remove_job", "remove_job_files"]

_WRITING_SECONDS = 60.0
"""A half-written upload that is younger may still be on its way; it is refused when it arrives."""


@dataclass
class Removed:
    """What a removal took away, or would take away."""

    models: int = 0
    """Registrations."""
    jobs: int = 0
    """Jobs that lost their files, or were removed as a whole."""
    files: int = 0
    bytes: int = 0


def remove_blobs(blobs: BlobStore, found: Iterable[Blob], removed: Removed) -> None:
    """Remove stored files and count them."""
    for blob in found:
        blobs.delete(blob.key)
        removed.files += 1
        removed.bytes += blob.size


def remove_job_files(data: Path, job_id: str) -> None:
    """Remove what workers of a job left beside its artifacts: log, checkpoints, scratch."""
    (data / "logs" / f"{job_id}.log").unlink(missing_ok=True)
    for folder in (checkpoint_folder(data, job_id), data / "work" / job_id):
        shutil.rmtree(folder, ignore_errors=True)


def remove_job(blobs: BlobStore, data: Path, job_id: str, removed: Removed) -> None:
    """Remove all files of a job that is gone, half-written ones too."""
    prefix = f"artifacts/{job_id}/"
    remove_blobs(blobs, [*blobs.blobs(prefix), *blobs.drafts(prefix, before=math.inf)], removed)
    blobs.sweep(prefix)
    remove_job_files(data, job_id)


def delete_model(
    database: Database,
    blobs: BlobStore,
    data: Path,
    model_id: str,
    *,
    organisation: int,
    now: float,
) -> Removed:
    """Remove a model, its uploads and its jobs with their artifacts, logs and checkpoints.

    The rows go first, in one transaction: what a crash leaves of the files belongs to nobody, and
    ``modelward gc`` removes it.

    Raises:
        NotFoundError: The model is gone.
        ConflictError: One of its jobs waits or runs.
    """
    removed = Removed(models=1)
    own = (jobs.c.registration_id == model_id) & owned_by(jobs, organisation)
    with database.write(durable=True) as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.state).where(own)).all()
        still = [row.id for row in rows if not JobState(row.state).ended]
        if still:
            raise ConflictError(
                f"model {model_id}: expected no waiting or running job; {', '.join(still)} did not "
                "end yet. Cancel it (DELETE /jobs/{job_id}) or wait, then delete the model"
            )
        ids = select(jobs.c.id).where(own).scalar_subquery()
        connection.execute(delete(artifacts).where(artifacts.c.job_id.in_(ids)))
        connection.execute(
            delete(idempotency_keys).where(idempotency_keys.c.registration_id == model_id)
        )
        connection.execute(delete(jobs).where(own))
        connection.execute(
            delete(uploads).where(
                uploads.c.registration_id == model_id, owned_by(uploads, organisation)
            )
        )
        gone = connection.execute(
            delete(registrations).where(
                registrations.c.id == model_id, owned_by(registrations, organisation)
            )
        )
        if not gone.rowcount:
            raise NotFoundError(f"model_id: expected a registered model; {model_id} is gone")
        audit.append(
            connection,
            "model.deleted",
            now=now,
            organisation=organisation,
            subject=model_id,
            detail={"jobs": [row.id for row in rows]},
        )
    removed.jobs = len(rows)
    prefix = f"inputs/{model_id}/"
    broken = blobs.drafts(prefix, before=time.time() - _WRITING_SECONDS)
    remove_blobs(blobs, [*blobs.blobs(prefix), *broken], removed)
    blobs.sweep(prefix)
    for row in rows:
        remove_job(blobs, data, row.id, removed)
    return removed
