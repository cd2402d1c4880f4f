"""The dispatcher with small worker processes: attempts, ends that are told, space, leftovers."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from job_world import JobWorld

from modelward.domain import StorageFullError
from modelward.jobs.checkpoints import checkpoint_folder
from modelward.jobs.dispatcher import Dispatcher
from modelward.jobs.records import Job, JobState
from modelward.settings import Settings

DIES = "import os; os._exit(7)"
SLEEPS = "import time; time.sleep(600)"


@pytest.fixture
def world(tmp_path: Path) -> JobWorld:
    return JobWorld(tmp_path)


class Ear:
    """Hears of ends; breaks the first time where it is told to."""

    def __init__(self, *, broken: bool = False) -> None:
        self.heard: list[tuple[str, JobState]] = []
        self.broken = broken

    def __call__(self, job: Job) -> None:
        self.heard.append((job.id, job.state))
        if self.broken:
            raise RuntimeError("deaf")


@contextmanager
def _running(
    world: JobWorld, script: str, *ears: Callable[[Job], None], **settings: Any
) -> Iterator[Dispatcher]:
    made = Dispatcher(
        world.jobs,
        Settings(data=world.data, shutdown_grace_seconds=0, **settings),
        command=[sys.executable, "-c", script],
    )
    made.on_end += ears
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _wait(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_three_attempts_then_the_reason(world: JobWorld, tmp_path: Path) -> None:
    world.add("job-1")
    checkpoint_folder(world.data, "job-1").mkdir(parents=True)
    ear, deaf = Ear(), Ear(broken=True)
    with _running(world, DIES, deaf, ear):
        _wait(lambda: bool(ear.heard))
    job = world.jobs.get_unscoped("job-1")
    assert (job.state, job.attempts) == (JobState.FAILED, 3)
    assert "exit code 7" in job.message and "attempt 3 of 3" in job.message
    assert not checkpoint_folder(world.data, "job-1").exists()
    # one listener's trouble is not another's, and nobody is told twice
    assert ear.heard == deaf.heard == [("job-1", JobState.FAILED)]
    again = Ear()
    with _running(world, DIES, again):
        world.add("job-2")
        _wait(lambda: bool(again.heard))
    assert again.heard == [("job-2", JobState.FAILED)]


def test_nobody_is_told_twice_while_the_disk_is_full(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("job-1")
    world.finish("job-1")
    ear, refused = Ear(), threading.Semaphore(0)

    def full(_job: str) -> None:
        refused.release()
        raise StorageFullError("full")

    monkeypatch.setattr(world.jobs, "announced", full)
    monkeypatch.setattr("modelward.jobs.dispatcher._TROUBLE_SECONDS", 0.05)
    with _running(world, DIES, ear) as made:
        for _ in range(3):
            made.wake()
            assert refused.acquire(timeout=30)
    assert ear.heard == [("job-1", JobState.SUCCEEDED)]


def test_ends_from_before_the_start_are_told(world: JobWorld) -> None:
    for name in ("job-1", "job-2"):
        world.add(name)
    world.finish("job-1")
    world.now += 1
    world.jobs.cancel_unscoped("job-2")
    ear = Ear()
    with _running(world, DIES, ear):
        _wait(lambda: len(ear.heard) == 2)
    assert ear.heard == [("job-1", JobState.SUCCEEDED), ("job-2", JobState.CANCELLED)]


def test_a_server_that_died_three_times_gives_the_job_up(world: JobWorld) -> None:
    world.add("job-1")
    for attempt in (1, 2, 3):
        assert world.jobs.claim().attempts == attempt  # type: ignore[union-attr]
        made = Dispatcher(world.jobs, Settings(data=world.data, disk_reserve_bytes=2**62))
        made.start()  # as after kill -9: the job is marked running, and nobody works on it
        made.stop()
    job = world.jobs.get_unscoped("job-1")
    assert job.state is JobState.FAILED
    assert "The service ended while this job was running; this was attempt 3 of 3" in job.message


def test_stopping_ends_the_process_and_keeps_the_attempt(world: JobWorld) -> None:
    world.add("job-1")
    with _running(world, SLEEPS):
        _wait(lambda: world.jobs.get_unscoped("job-1").state is JobState.RUNNING)
    job = world.jobs.get_unscoped("job-1")
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert job.ran_seconds > 0


def test_no_more_jobs_than_allowed_run_at_once(world: JobWorld) -> None:
    for number in range(5):
        world.add(f"job-{number}")
    with _running(world, SLEEPS, max_jobs=2) as made:
        _wait(lambda: len(world.jobs.running()) == 2)
        world.jobs.cancel_unscoped("job-0")
        made.wake()
        _wait(lambda: world.jobs.running() == ["job-1", "job-2"])
        assert world.jobs.counts_unscoped()[JobState.QUEUED] == 2


def test_no_job_is_started_without_space(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked = threading.Event()
    real = Dispatcher._has_space

    def look(self: Dispatcher) -> bool:
        found = real(self)
        looked.set()
        return found

    monkeypatch.setattr(Dispatcher, "_has_space", look)
    world.add("job-1")
    with _running(world, DIES, disk_reserve_bytes=2**62):
        assert looked.wait(30)
    assert world.jobs.get_unscoped("job-1").attempts == 0
    assert "disk_reserve_bytes" in caplog.text


def test_a_job_without_a_process_is_started_again(world: JobWorld) -> None:
    """Its start failed, and so did the note about that: the disk was full."""
    ear = Ear()
    with _running(world, DIES, ear, disk_reserve_bytes=2**62) as made:
        world.add("job-1")
        world.jobs.claim()
        made.wake()
        _wait(lambda: world.jobs.get_unscoped("job-1").state is JobState.QUEUED)
    assert world.jobs.get_unscoped("job-1").attempts == 1


BUSY = """
import pathlib, sys, time
data = pathlib.Path(sys.argv[sys.argv.index("--data") + 1])
while True:
    for place in ("checkpoints", "blobs/artifacts", "work"):
        (data / place / "job-1").mkdir(parents=True, exist_ok=True)
        (data / place / "job-1" / "late").write_text("x")
        (data / place / "job-1" / "late#1").write_text("x")
    (data / "writing").touch()
"""


@pytest.mark.parametrize("gone", [False, True])
def test_a_cancelled_process_leaves_nothing_behind(world: JobWorld, gone: bool) -> None:
    """It lives a moment longer than its job, and writes on."""
    world.add("job-1")
    with _running(world, BUSY) as made:
        _wait((world.data / "writing").exists)
        world.jobs.cancel_unscoped("job-1")
        if gone:
            world.delete(world.model)
        made.wake()
        _wait(lambda: not made._workers)
    left = {path.name for path in world.data.rglob("late*")}
    assert left == (set() if gone else {"late", "late#1"})  # artifacts of a job that is there
    assert not (world.data / "checkpoints" / "job-1").exists()
    assert not (world.data / "work" / "job-1").exists()


@pytest.mark.parametrize(
    ("number", "attempts"),
    [(errno.EAGAIN, 0), (errno.ENOMEM, 0), (errno.ENOSPC, 0), (errno.ENOENT, 1)],
)
def test_jobs_outlive_a_machine_that_starts_no_process(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch, number: int, attempts: int
) -> None:
    for name in ("job-1", "job-2"):
        world.add(name)
    tried = threading.Semaphore(0)

    def fails(*_: object) -> None:
        tried.release()
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr("modelward.jobs.dispatcher.Worker", fails)
        with _running(world, SLEEPS) as made:
            for _ in range(2):
                assert tried.acquire(timeout=30)
                made.wake()
    jobs = [world.jobs.get_unscoped(name) for name in ("job-1", "job-2")]
    assert [(job.state, job.attempts) for job in jobs] == [(JobState.QUEUED, attempts)] * 2
    assert world.jobs.claim() is None  # not at once
    world.now += 31
    assert world.jobs.claim().id == "job-1"  # type: ignore[union-attr]


def test_what_a_process_printed_cannot_pass_for_a_line_of_the_service(
    world: JobWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.add("job-1")
    prints = (
        r"import os; os.write(2, b'first\n2026-01-01 INFO job-9 succeeded\n"
        r"\x1b[2J token=s3cr3t\n'); os._exit(7)"
    )
    with _running(world, prints, job_attempts=1):
        _wait(lambda: world.jobs.get_unscoped("job-1").state is JobState.FAILED)
    assert (
        "exit code 7 before the job was done; its log ends:\n    | first\n"
        "    | 2026-01-01 INFO job-9 succeeded\n    | \\x1b[2J token=***"
    ) in caplog.text
