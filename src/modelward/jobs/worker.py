"""The job process: ``python -m modelward.jobs.worker --data DIR --job ID``."""

import argparse
import contextlib
import ctypes
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from modelward.domain import SandboxOptions, UnavailableError
from modelward.jobs.checkpoints import Checkpoints, checkpoint_folder
from modelward.jobs.context import RequestContext, acting
from modelward.jobs.database import Database
from modelward.jobs.progress import JobProgress
from modelward.jobs.runner import SCRATCH, Outcome, run_job
from modelward.storage import BlobStore, private_files

__all__ = ["main"]

_LOG = logging.getLogger(__name__)
_SET_PARENT_DEATH_SIGNAL = 1
_OOM_SCORE = "500"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job of a data folder.

    SIGTERM asks it to stop at the next checkpoint.

    Returns:
        A value of ``Outcome``.
    """
    parser = argparse.ArgumentParser(prog="modelward-worker", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder of the service")
    parser.add_argument("--job", required=True, help="id of a job that is marked running")
    parser.add_argument("--attempt", type=int, help="number of this attempt")
    parser.add_argument("--nice", type=int, default=0, help="niceness to take on")
    parser.add_argument("--parent", type=int, help="process id of the starter; end when it ends")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=10, help="pause between two inside a stage"
    )
    parser.add_argument("--sandbox", default="{}", help="sandbox settings of the service, JSON")
    given = parser.parse_args(arguments)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if given.parent is not None and not _tie_to(given.parent):
        return Outcome.INTERRUPTED
    os.nice(given.nice)
    try:
        with private_files(), acting(RequestContext(actor="worker")):
            return _work(given, stopping)
    except UnavailableError:
        _LOG.exception("job %s", given.job)
        return Outcome.TROUBLE


def _work(given: argparse.Namespace, stopping: threading.Event) -> Outcome:
    workdir = given.data / "work" / given.job
    # A worker that is killed leaves its temporary files, copies of models among them; here they
    # go with the rest of its folder.
    tempfile.tempdir = os.environ["TMPDIR"] = str(workdir / SCRATCH)
    database = Database(given.data)
    try:
        return run_job(
            given.job,
            JobProgress(database, time.time, attempt=given.attempt),
            BlobStore(given.data / "blobs"),
            workdir,
            checkpoints=Checkpoints(
                checkpoint_folder(given.data, given.job), given.checkpoint_seconds
            ),
            stopping=stopping.is_set,
            sandbox=SandboxOptions.model_validate_json(given.sandbox),
        )
    finally:
        database.close()


def _tie_to(parent: int) -> bool:
    """End with the server, even where that is killed, and die before it where memory runs out.

    SIGKILL, because what counts is on the disk already, and because the next server may start the
    job again at once: two workers must never share it.

    Returns:
        Whether the server is still there.
    """
    if sys.platform != "linux":
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main())
