"""The job process: ``python -m modelward.jobs.worker --data DIR --job ID``."""

import argparse
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from modelward.domain import SandboxOptions
from modelward.jobs.database import Database
from modelward.jobs.runner import run_job
from modelward.jobs.store import JobStore
from modelward.storage import BlobStore

__all__ = ["main"]

_SET_PARENT_DEATH_SIGNAL = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job of a data folder.

    Returns:
        0 where the job ended well, 1 otherwise; the reason stands in the job.
    """
    parser = argparse.ArgumentParser(prog="modelward-worker", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder of the service")
    parser.add_argument("--job", required=True, help="id of a job that is marked running")
    parser.add_argument("--nice", type=int, default=0, help="niceness to take on")
    parser.add_argument("--attached", action="store_true", help="end when the starter ends")
    parser.add_argument("--sandbox", default="{}", help="sandbox settings of the service, JSON")
    given = parser.parse_args(arguments)
    if given.attached:
        _end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.nice(given.nice)
    database = Database(given.data)
    try:
        done = run_job(
            given.job,
            JobStore(database, time.time),
            BlobStore(given.data / "blobs"),
            given.data / "work" / given.job,
            SandboxOptions.model_validate_json(given.sandbox),
        )
    finally:
        database.close()
    return 0 if done else 1


def _end_with_parent() -> None:
    """Ask Linux for SIGTERM when the server is gone, even where it was killed."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
