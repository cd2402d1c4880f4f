"""Starts one process per job and notices when it dies."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from modelward.domain import SandboxOptions
from modelward.jobs.secrets import mask
from modelward.jobs.store import JobStore

__all__ = ["WORKER_COMMAND", "Dispatcher"]

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0

# -P keeps the working directory off the import path: a file there must not become code here.
WORKER_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "modelward.jobs.worker")

_SPINS = "50000"
"""Turns that a waiting thread of GNU OpenMP spins before it sleeps."""


@dataclass
class _Worker:
    job_id: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]


class Dispatcher:
    """Takes waiting jobs from the store, a few at a time, each into a process of its own."""

    def __init__(
        self,
        store: JobStore,
        data: Path,
        *,
        max_jobs: int,
        nice: int,
        command: Sequence[str] = WORKER_COMMAND,
        sandbox: SandboxOptions | None = None,
    ) -> None:
        self._store = store
        self._data = data
        self._max_jobs = max_jobs
        self._command = [*command, "--data", str(data), "--nice", str(nice), "--attached"]
        if sandbox is not None:
            self._command += ["--sandbox", sandbox.model_dump_json()]
        self._workers: list[_Worker] = []
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Fail the jobs that an earlier server left running, then begin to work."""
        for job_id in self._store.running():
            self._store.fail(
                job_id,
                "The service stopped while this job was running; send the analysis request again",
            )
        shutil.rmtree(self._data / "work", ignore_errors=True)
        (self._data / "logs").mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def wake(self) -> None:
        """Look for waiting jobs now."""
        self._wake.set()

    def stop(self) -> None:
        """Stop all job processes; their jobs are marked failed."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            try:
                worker.process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.log.close()
            shutil.rmtree(self._data / "work" / worker.job_id, ignore_errors=True)
            self._store.fail(
                worker.job_id,
                "The service was stopped while this job was running; "
                "send the analysis request again",
            )
        self._workers.clear()

    def _loop(self) -> None:
        while not self._stopping:
            try:
                self._reap()
                while len(self._workers) < self._max_jobs and self._launch():
                    pass
            except Exception:
                # A full disk or a busy database must not end the only thread that starts jobs.
                _LOG.exception("dispatcher: trying again")
            # With work under way the processes are looked after; otherwise wait for a call.
            self._wake.wait(_POLL_SECONDS if self._workers else 5.0)
            self._wake.clear()

    def _launch(self) -> bool:
        job = self._store.claim()
        if job is None:
            return False
        # The file stays open while the process lives; _reap closes it.
        log = (self._data / "logs" / f"{job.id}.log").open("wb")
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [*self._command, "--job", job.id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(),
            )
        except OSError as error:
            log.close()
            self._store.fail(job.id, f"The job process did not start: {error}")
            return True
        _LOG.info("job %s runs as process %d", job.id, process.pid)
        self._workers.append(_Worker(job.id, process, log))
        return True

    def _reap(self) -> None:
        for worker in [one for one in self._workers if one.process.poll() is not None]:
            worker.log.close()
            code = worker.process.returncode
            if self._store.fail(worker.job_id, _reason(code)):
                _LOG.error("job %s: %s; %s", worker.job_id, _reason(code), self._tail(worker))
            shutil.rmtree(self._data / "work" / worker.job_id, ignore_errors=True)
            self._workers.remove(worker)

    def _tail(self, worker: _Worker) -> str:
        with contextlib.suppress(OSError):
            text = (self._data / "logs" / f"{worker.job_id}.log").read_text(errors="replace")
            return mask(text[-500:])
        return "no log"


def _environment() -> dict[str, str]:
    """Our own, but idle OpenMP threads spin only briefly.

    By default they spin for milliseconds; where another process wants the cores, a job then runs
    several times slower and takes the time from the server that answers status calls. Threads
    that sleep at once cost a job of small networks a third of its speed on an idle machine.
    """
    return {"GOMP_SPINCOUNT": _SPINS, **os.environ}


def _reason(code: int) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (often: not enough memory)" if name == "SIGKILL" else ""
        return f"The job process was ended by {name}{hint}"
    return f"The job process ended with exit code {code} before the job was done"
