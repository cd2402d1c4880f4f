"""Starts one process per job, holds it to its limits, and sees to jobs whose process died."""

import errno
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelward.domain import SandboxOptions, StorageFullError, UnavailableError
from modelward.jobs.checkpoints import checkpoint_folder
from modelward.jobs.deletion import Removed, remove_job
from modelward.jobs.exits import exit_reason, mib, quoted_log
from modelward.jobs.processes import Worker, machine_memory, process_children
from modelward.jobs.records import Job, JobState
from modelward.jobs.runner import Outcome
from modelward.jobs.store import JobStore
from modelward.settings import Settings
from modelward.storage import BlobStore, disk_trouble, make_folder

__all__ = ["WORKER_COMMAND", "Dispatcher"]

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_IDLE_SECONDS = 5.0
_CHECK_SECONDS = 1.0
"""Pause between two looks at limits, and at what others did to the jobs."""
_TROUBLE_SECONDS = 2.0
_DISK_SECONDS = 30.0
"""Pause before a job is started again that met a full disk or a locked database; then longer."""
_MOST_STEPS = 3
"""So often the pause grows, fourfold: to half an hour, however many attempts are allowed."""
_SCARCE = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
"""No process can be made right now, of whatever job."""
_EXIT_SECONDS = 10.0
"""Time that a worker may take to leave after its job has ended."""
_MEMORY_SHARE = 0.8

# -P keeps the working directory off the import path: a file there must not become code here.
WORKER_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "modelward.jobs.worker")


@dataclass(frozen=True)
class _Limits:
    seconds: float
    memory: int


class Dispatcher:
    """Takes waiting jobs from the store, a few at a time, each into a process of its own.

    All work happens in one thread: workers are tied to it and die with it.

    Attributes:
        on_end: Called with every job that has ended, whichever way, in the dispatcher's thread:
            at least once, also for jobs that ended while no server ran. It should return quickly:
            no job is started or ended meanwhile. Exceptions are logged.
    """

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        *,
        command: Sequence[str] = WORKER_COMMAND,
        sandbox: SandboxOptions | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._data = settings.data
        self._command = [
            *command,
            *("--data", str(settings.data), "--nice", str(settings.worker_nice)),
            *("--parent", str(os.getpid())),
            *("--checkpoint-seconds", str(settings.checkpoint_seconds)),
        ]
        if sandbox is not None:
            self._command += ["--sandbox", sandbox.model_dump_json()]
        memory = settings.job_max_memory_bytes or int(machine_memory() * _MEMORY_SHARE)
        self._limits = _Limits(settings.job_max_seconds, memory)
        self._workers: list[Worker] = []
        self._wake = threading.Event()
        self._stopping = False
        self._checked = -_CHECK_SECONDS
        self._enough = True
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._loop, name="dispatcher", daemon=True)
        self.on_end: list[Callable[[Job], None]] = []

    def start(self) -> None:
        """Queue the jobs that an earlier server left running, then begin to work."""
        for job_id in self._store.running():
            self._again(
                self._store.get_unscoped(job_id), "The service ended while this job was running"
            )
        shutil.rmtree(self._data / "work", ignore_errors=True)
        make_folder(self._data / "logs")
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are being started."""
        return self._thread.is_alive() and not self._stopping

    def wake(self) -> None:
        """Look for waiting and cancelled jobs now."""
        self._checked = -_CHECK_SECONDS
        self._wake.set()

    def stop(self) -> None:
        """Send the workers home, at a checkpoint where they reach one; their jobs wait again."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stopping:
            # With work under way the processes are looked after; otherwise wait for a call.
            pause = _POLL_SECONDS
            try:
                self._reap()
                self._check()
                while len(self._workers) < self._settings.max_jobs and self._launch():
                    pass
                pause = _POLL_SECONDS if self._workers else _IDLE_SECONDS
            except UnavailableError as error:
                _LOG.error("dispatcher: trying again: %s", error)
                pause = _TROUBLE_SECONDS
            except Exception:
                # Nothing may end the only thread that starts jobs.
                _LOG.exception("dispatcher: trying again")
                pause = _TROUBLE_SECONDS
            self._wake.wait(pause)
            self._wake.clear()
        self._send_home()

    def _has_space(self) -> bool:
        """Whether a job may be started: on a full disk it would only waste an attempt."""
        free = shutil.disk_usage(self._data).free
        enough = free >= self._settings.disk_reserve_bytes
        if enough is not self._enough:
            self._enough = enough
            _LOG.log(
                logging.INFO if enough else logging.ERROR,
                "data folder: %s free; jobs are started with at least %s (disk_reserve_bytes)",
                mib(free),
                mib(self._settings.disk_reserve_bytes),
            )
        return enough

    def _launch(self) -> bool:
        job = self._store.claim() if self._has_space() else None
        if job is None:
            return False
        command = [*self._command, "--job", job.id, "--attempt", str(job.attempts)]
        try:
            worker = Worker(job.id, job.attempts, command, self._data / "logs" / f"{job.id}.log")
        except OSError as error:
            self._not_started(job, error)
            # The next one would not fare better now: what is wrong is not the job.
            return False
        _LOG.info(
            "job %s runs as process %d, attempt %d of %d",
            job.id,
            worker.pid,
            job.attempts,
            self._settings.job_attempts,
        )
        self._workers.append(worker)
        return True

    def _not_started(self, job: Job, error: OSError) -> None:
        """Let a job wait whose process could not be made; the machine's want is not its fault."""
        full = disk_trouble(error)
        if isinstance(full, StorageFullError):
            self._store.requeue(job.id, full.message, counts=False, delay=_DISK_SECONDS)
        elif error.errno in _SCARCE:
            reason = f"The machine could not make a process for this job ({error.strerror})"
            self._store.requeue(job.id, reason, counts=False, delay=_DISK_SECONDS)
        else:
            _LOG.error("job %s: its process did not start: %s", job.id, error)
            self._again(job, f"The job process did not start: {error}", delay=_DISK_SECONDS)

    def _reap(self) -> None:
        """See to the jobs whose process has ended; one stays until its end is written."""
        for worker in list(self._workers):
            code = worker.exit_code()
            if code is None:
                continue
            state = self._store.states([worker.job_id]).get(worker.job_id)
            if state is JobState.RUNNING:
                job = self._store.get_unscoped(worker.job_id)
                _LOG.error(
                    "job %s: %s; its log ends:%s", job.id, exit_reason(code), quoted_log(worker)
                )
                if worker.stopped_for:
                    self._store.fail(job.id, worker.stopped_for)
                else:
                    # Trouble with the disk seldom ends at once.
                    pause = _DISK_SECONDS * 4 ** min(job.attempts - 1, _MOST_STEPS)
                    delay = pause if code == Outcome.TROUBLE else 0.0
                    self._again(job, exit_reason(code), ran=worker.seconds, delay=delay)
            self._workers.remove(worker)
            self._clear_after(worker, state)
            self._tell()

    def _clear_after(self, worker: Worker, state: JobState | None) -> None:
        """Remove what a process that is gone left behind.

        A job that is cancelled, and perhaps removed with its model, loses its files at once; its
        process lives a moment longer and may write some again.
        """
        if state is None:
            blobs = BlobStore(self._data / "blobs")
            remove_job(blobs, self._data, worker.job_id, Removed())
            return
        shutil.rmtree(self._data / "work" / worker.job_id, ignore_errors=True)
        if state.ended:
            shutil.rmtree(checkpoint_folder(self._data, worker.job_id), ignore_errors=True)

    def _again(self, job: Job, reason: str, *, ran: float = 0.0, delay: float = 0.0) -> None:
        """Let a job wait for its next attempt, or fail it after the last one."""
        most = self._settings.job_attempts
        if job.attempts >= most:
            self._store.fail(
                job.id, f"{reason}; this was attempt {job.attempts} of {most}, no further is made"
            )
            return
        self._store.requeue(
            job.id,
            f"{reason}; attempt {job.attempts + 1} of {most} goes on from the last checkpoint",
            counts=True,
            ran=ran,
            delay=delay,
        )

    def _check(self) -> None:
        """Hold workers to their limits, and to what others did to their jobs meanwhile."""
        now = time.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        self._tell()
        mine = {worker.job_id: worker for worker in self._workers}
        for job_id in set(self._store.running()) - set(mine):
            # Claimed, but its start could not be written down as failed.
            self._again(self._store.get_unscoped(job_id), "The job process did not start")
        states = self._store.states(list(mine)) if mine else {}
        children = process_children() if mine else {}
        for job_id, worker in mine.items():
            state = states.get(job_id)
            if state is JobState.RUNNING:
                self._hold(worker, children)
            elif state in (JobState.CANCELLED, None):
                worker.kill()
            else:
                worker.outlived = worker.outlived or now
                if now - worker.outlived > _EXIT_SECONDS:
                    worker.kill()

    def _hold(self, worker: Worker, children: dict[int, list[int]]) -> None:
        if worker.stopped_for:
            return
        used = worker.memory(children, self._limits.memory)
        ran = worker.seconds + self._store.get_unscoped(worker.job_id).ran_seconds
        if used > self._limits.memory:
            worker.stopped_for = (
                f"memory: expected at most {mib(self._limits.memory)} for one job (setting "
                f"job_max_memory_bytes); its processes held {mib(used)}. Raise the setting on a "
                "machine with more memory, or send fewer images or queries"
            )
        elif ran > self._limits.seconds:
            worker.stopped_for = (
                f"time: expected at most {self._limits.seconds:g} s for one job (setting "
                f"job_max_seconds); it ran for {ran:.0f} s. Raise the setting, or send fewer "
                "images or queries"
            )
        if worker.stopped_for:
            worker.kill()

    def _tell(self) -> None:
        """Tell of every job that has ended; its checkpoints are of no use any more."""
        for job in self._store.unannounced():
            shutil.rmtree(checkpoint_folder(self._data, job.id), ignore_errors=True)
            # Where the note about it cannot be written, listeners still hear of it only once.
            for listener in () if job.id in self._told else self.on_end:
                try:
                    listener(job)
                except Exception:
                    _LOG.exception("job %s: its end could not be told to %r", job.id, listener)
            self._told.add(job.id)
            self._store.announced(job.id)
            self._told.discard(job.id)

    def _send_home(self) -> None:
        """End all workers in order: what they did since their last checkpoint is done again."""
        for worker in self._workers:
            worker.interrupt()
        give_up = time.monotonic() + self._settings.shutdown_grace_seconds
        while time.monotonic() < give_up and any(w.exit_code() is None for w in self._workers):
            time.sleep(_POLL_SECONDS / 2)
        for worker in self._workers:
            worker.kill()
            try:
                # Asked to go: this attempt does not count.
                self._store.requeue(
                    worker.job_id,
                    "The service was stopped; the job goes on when it is started again",
                    counts=False,
                    ran=worker.seconds,
                )
                states = self._store.states([worker.job_id])
                self._clear_after(worker, states.get(worker.job_id))
            except Exception:
                # The next start finds it marked running, and queues it; the others come first.
                _LOG.exception("job %s", worker.job_id)
        self._workers.clear()
        try:
            self._tell()
        except UnavailableError:
            _LOG.exception("ends of jobs are told at the next start")
