"""What an operator does to a data folder from the command line, beside a server or without one."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from modelward.jobs.database import DATABASE_FILE, Database, no_service
from modelward.jobs.deletion import Removed
from modelward.jobs.records import Job
from modelward.jobs.retention import collect_garbage
from modelward.jobs.store import JobStore
from modelward.settings import Settings
from modelward.storage import BlobStore

__all__ = ["cancel_job", "collect"]


@contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    if not os.path.isfile(settings.data / DATABASE_FILE):
        raise no_service(settings.data)
    database = Database(settings.data, wait_seconds=settings.database_wait_seconds)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


def collect(settings: Settings, older_than: float, *, dry_run: bool = False) -> Removed:
    """Remove what is older than so many seconds, and what belongs to nobody."""
    with _opened(settings) as database:
        return collect_garbage(
            database,
            BlobStore(settings.data / "blobs"),
            settings.data,
            older_than=older_than,
            now=time.time(),
            dry_run=dry_run,
        )


def cancel_job(settings: Settings, job_id: str) -> Job:
    """End a job on request; a running server ends its worker within seconds.

    Raises:
        NotFoundError: Unknown job.
        ConflictError: It has ended by itself.
    """
    with _opened(settings) as database:
        return JobStore(database, time.time).cancel_unscoped(job_id)
