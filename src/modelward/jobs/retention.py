"""Removal of what is old or belongs to nobody: ``modelward gc`` and the setting retention_days."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import ColumnElement, delete, func, select, update

from modelward.domain import ModelwardError
from modelward.jobs.database import Database
from modelward.jobs.deletion import Removed, remove_blobs, remove_job_files
from modelward.jobs.queue import KEY_SECONDS
from modelward.jobs.records import JobState
from modelward.jobs.tables import artifacts, idempotency_keys, jobs, registrations, uploads
from modelward.settings import Settings
from modelward.storage import Blob, BlobStore

__all__ = ["Housekeeper", "collect_garbage"]

_LOG = logging.getLogger(__name__)
_ORPHAN_SECONDS = 3_600.0
"""A stored file that no row names is left alone for this long: its row may be on its way."""
_INCOMING_SECONDS = 86_400.0
_EVERY_SECONDS = 3_600.0
_ENDED = [state for state in JobState if state.ended]
_OPEN = [state for state in JobState if not state.ended]


def collect_garbage(
    database: Database,
    blobs: BlobStore,
    data: Path,
    *,
    older_than: float,
    now: float,
    dry_run: bool = False,
) -> Removed:
    """Remove uploads and artifacts by age, and what belongs to nobody; safe beside a server.

    A model's files are old when its last upload and the end of its last job lie before
    ``now - older_than``; models with a waiting or running job are left alone. Jobs keep their row
    (state, score, parameters); a registration that was never analysed goes as a whole.

    Args:
        database: Of the data folder.
        blobs: Of the data folder.
        data: The data folder.
        older_than: Age in seconds.
        now: Seconds since 1970.
        dry_run: Whether to count only.
    """
    removed = Removed()
    cutoff = now - older_than
    for model_id in _old_models(database, cutoff):
        _empty_model(database, blobs, model_id, cutoff, now, dry_run=dry_run, removed=removed)
    found = _orphans(database, blobs)
    if dry_run:
        removed.files += len(found)
        removed.bytes += sum(blob.size for blob in found)
        return removed
    remove_blobs(blobs, found, removed)
    _forget_keys(database, now)
    _remove_leftovers(database, data, cutoff)
    blobs.sweep()
    return removed


def _settled(cutoff: float) -> ColumnElement[bool]:
    """Registrations where nothing happened since the cutoff, and nothing will."""
    mine = jobs.c.registration_id == registrations.c.id
    recent = select(jobs.c.id).where(mine, jobs.c.state.in_(_OPEN) | (jobs.c.finished >= cutoff))
    fresh = select(uploads.c.slot).where(
        uploads.c.registration_id == registrations.c.id, uploads.c.created >= cutoff
    )
    return (registrations.c.created < cutoff) & ~recent.exists() & ~fresh.exists()


def _old_models(database: Database, cutoff: float) -> list[str]:
    # a model whose files are gone already has nothing but purged jobs
    left = (
        ~select(jobs.c.id).where(jobs.c.registration_id == registrations.c.id).exists()
        | select(jobs.c.id)
        .where(jobs.c.registration_id == registrations.c.id, jobs.c.purged.is_(None))
        .exists()
    )
    with database.read() as connection:
        return list(
            connection.execute(select(registrations.c.id).where(_settled(cutoff), left)).scalars()
        )


def _empty_model(
    database: Database,
    blobs: BlobStore,
    model_id: str,
    cutoff: float,
    now: float,
    *,
    dry_run: bool,
    removed: Removed,
) -> None:
    own = jobs.c.registration_id == model_id
    with database.read() as connection:
        ids = list(connection.execute(select(jobs.c.id).where(own)).scalars())
    found = blobs.blobs(f"inputs/{model_id}/")
    found += [blob for job_id in ids for blob in blobs.blobs(f"artifacts/{job_id}/")]
    if not dry_run:
        with database.write(durable=True) as connection:
            settled = select(registrations.c.id).where(
                registrations.c.id == model_id, _settled(cutoff)
            )
            if connection.execute(settled).first() is None:
                return  # an upload or a job came meanwhile
            connection.execute(delete(artifacts).where(artifacts.c.job_id.in_(ids)))
            connection.execute(delete(uploads).where(uploads.c.registration_id == model_id))
            # The request as it came may be long, and is of no use any more.
            connection.execute(
                update(jobs).where(own, jobs.c.purged.is_(None)).values(purged=now, payload={})
            )
            if not ids:
                connection.execute(delete(registrations).where(registrations.c.id == model_id))
    removed.models += 0 if ids else 1
    removed.jobs += len(ids)
    if dry_run:
        removed.files += len(found)
        removed.bytes += sum(blob.size for blob in found)
        return
    remove_blobs(blobs, found, removed)


def _orphans(database: Database, blobs: BlobStore) -> list[Blob]:
    """Stored files that no row names; listed before the rows are read, so that none is missed."""
    limit = time.time() - _ORPHAN_SECONDS
    found = [blob for blob in blobs.blobs() if blob.modified < limit]
    found += blobs.drafts(before=limit)
    with database.read() as connection:
        named = set(connection.execute(select(uploads.c.blob)).scalars())
        named |= set(connection.execute(select(artifacts.c.blob)).scalars())
        for inputs in connection.execute(select(jobs.c.inputs).where(jobs.c.state.in_(_OPEN))):
            named |= set(inputs[0].values())
    return [blob for blob in found if blob.key not in named]


def _forget_keys(database: Database, now: float) -> None:
    ended = select(jobs.c.id).where(jobs.c.state.in_(_ENDED))
    with database.write() as connection:
        connection.execute(
            delete(idempotency_keys).where(
                idempotency_keys.c.created <= now - KEY_SECONDS,
                idempotency_keys.c.job_id.in_(ended),
            )
        )


def _remove_leftovers(database: Database, data: Path, cutoff: float) -> None:
    """Logs, checkpoints and scratch of jobs that are old or gone, and uploads that broke off."""
    names = {path.stem for path in (data / "logs").glob("job-*.log")}
    for folder in ("checkpoints", "work"):
        names |= {path.name for path in (data / folder).glob("job-*")}
    with database.read() as connection:
        kept = set(
            connection.execute(
                select(jobs.c.id).where(func.coalesce(jobs.c.finished, cutoff) >= cutoff)
            ).scalars()
        )
    for job_id in names - kept:
        remove_job_files(data, job_id)
    for path in (data / "incoming").glob("*.part"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _INCOMING_SECONDS:
                path.unlink(missing_ok=True)


class Housekeeper:
    """Collects garbage once an hour in a thread of its own, where retention_days is set."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Begin, where it is called for."""
        if self._settings.retention_days is not None:
            self._thread.start()

    def stop(self) -> None:
        """End; a collection under way is finished first."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        age = 86_400 * (self._settings.retention_days or 0)
        while True:
            try:
                removed = collect_garbage(
                    self._database,
                    self._blobs,
                    self._settings.data,
                    older_than=age,
                    now=self._clock(),
                )
                if removed.files:
                    _LOG.info("retention: %s", removed)
            except ModelwardError as error:
                _LOG.warning("retention: trying again in an hour: %s", error)
            except Exception:
                _LOG.exception("retention: trying again in an hour")
            if self._stopping.wait(_EVERY_SECONDS):
                return
