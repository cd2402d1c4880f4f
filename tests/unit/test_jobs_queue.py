"""Order, bounds, repeated requests, attempts and cancellation of jobs."""

import threading
from pathlib import Path

import pytest
from job_world import STAGES, JobWorld

from modelward.domain import (
    ConflictError,
    InvalidInputError,
    InvalidParameterError,
    NotFoundError,
    StageStatus,
    TooManyRequestsError,
)
from modelward.jobs.progress import JobProgress
from modelward.jobs.queue import KEY_SECONDS, QueueLimits, RequestKey
from modelward.jobs.records import JobState


@pytest.fixture
def world(tmp_path: Path) -> JobWorld:
    return JobWorld(tmp_path)


def test_organisations_take_turns_and_each_keeps_its_own_order(world: JobWorld) -> None:
    others = [world.new_organisation() for _ in range(2)]
    for name in ("a1", "a2", "a3", "a4"):
        world.add(name)
    for organisation, name in zip(others, "bc", strict=True):
        for number in (1, 2):
            world.add(
                f"{name}{number}",
                organisation=organisation,
                model_id=world.new_model(organisation),
            )
    order = []
    while job := world.jobs.claim():
        order.append(job.id)
        world.now += 1
        world.jobs.succeed(job.id, "done")
    assert order == ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "a4"]


def test_an_organisation_with_fewer_running_jobs_goes_first(world: JobWorld) -> None:
    other = world.new_organisation()
    for name in ("a1", "a2"):
        world.add(name)
    assert world.jobs.claim().id == "a1"  # type: ignore[union-attr]
    world.add("b1", organisation=other, model_id=world.new_model(other))
    assert world.jobs.claim().id == "b1"  # type: ignore[union-attr]
    world.now += 1
    world.jobs.succeed("b1", "done")
    world.add("b2", organisation=other, model_id=world.new_model(other))
    # a was served longer ago, but still runs one
    assert world.jobs.claim().id == "b2"  # type: ignore[union-attr]
    assert world.jobs.claim().id == "a2"  # type: ignore[union-attr]


def test_queue_is_bounded_in_all_and_for_each_organisation(world: JobWorld) -> None:
    limits = QueueLimits(jobs=3, per_organisation=2)
    other = world.new_organisation()
    theirs = {"organisation": other, "model_id": world.new_model(other)}
    world.add("a1", limits=limits)
    world.add("a2", limits=limits)
    with pytest.raises(TooManyRequestsError, match="queue_max_jobs_per_organisation") as refused:
        world.add("a3", limits=limits)
    assert refused.value.retry_after > 0
    world.add("b1", limits=limits, **theirs)
    with pytest.raises(TooManyRequestsError, match=r"in all \(queue_max_jobs\)"):
        world.add("b2", limits=limits, **theirs)
    world.jobs.claim()  # a running job does not wait
    world.add("b2", limits=limits, **theirs)


def test_same_key_gives_the_same_job(world: JobWorld) -> None:
    key = RequestKey.of("k", {"a": 1, "b": [1.5]})
    assert key == RequestKey.of("k", {"b": [1.5], "a": 1})
    assert world.add("one", key=key) == "one"
    assert world.add("two", key=key, limits=QueueLimits(1, 1)) == "one"
    with pytest.raises(InvalidParameterError, match="other parameters"):
        world.add("three", key=RequestKey.of("k", {"a": 2}))
    # the same words from another organisation, or about another model, are another key
    assert world.add("four", key=key, model_id=world.new_model()) == "four"
    other = world.new_organisation()
    mine = {"organisation": other, "model_id": world.new_model(other)}
    assert world.add("five", key=key, **mine) == "five"


def test_key_lives_a_day_and_as_long_as_its_job(world: JobWorld) -> None:
    key = RequestKey.of("k", {})
    world.add("one", key=key)
    world.now += 3 * KEY_SECONDS
    assert world.add("two", key=key) == "one"
    world.jobs.claim()
    world.jobs.succeed("one", "done")
    assert world.add("two", key=key) == "two"
    assert world.add("three", key=key) == "two"


@pytest.mark.parametrize("name", ["", "x" * 256, "snow\u2603man", "tab\tbed"])
def test_unusable_keys_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="printable ASCII"):
        RequestKey.of(name, {})


def test_requests_at_the_same_time_make_one_job(world: JobWorld) -> None:
    key, start, made = RequestKey.of("k", {}), threading.Barrier(8), []

    def ask(number: int) -> None:
        start.wait(10)
        made.append(world.add(f"job-{number}", key=key))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 8 and len(set(made)) == 1
    assert world.jobs.counts_unscoped() == {JobState.QUEUED: 1}


def test_a_job_waits_again_at_its_old_place(world: JobWorld) -> None:
    world.add("one")
    world.add("two")
    world.jobs.claim()
    world.jobs.set_stage("one", STAGES[0], StageStatus.COMPLETED, message="", seconds=1.0)
    world.jobs.set_stage("one", STAGES[1], StageStatus.IN_PROGRESS, message="")
    assert world.jobs.requeue("one", "why", counts=True, ran=7.0)
    job = world.jobs.get_unscoped("one")
    assert (job.state, job.attempts, job.ran_seconds, job.message) == ("queued", 1, 7.0, "why")
    assert list(job.stages.values())[:2] == ["completed", "na"]
    assert not world.jobs.requeue("one", "again", counts=True)
    assert world.jobs.claim().attempts == 2  # type: ignore[union-attr]
    assert world.jobs.requeue("one", "sent home", counts=False, delay=30)
    assert world.jobs.get_unscoped("one").attempts == 1
    assert world.jobs.claim().id == "two"  # type: ignore[union-attr]
    assert world.jobs.claim() is None
    world.now += 31
    assert world.jobs.claim().id == "one"  # type: ignore[union-attr]


def test_a_worker_that_was_believed_dead_writes_nothing_any_more(world: JobWorld) -> None:
    world.add("one")
    world.jobs.claim()
    old = JobProgress(world.database, lambda: world.now, attempt=1)
    old.report("one", progress=0.5)
    world.jobs.requeue("one", "believed dead", counts=True)
    world.jobs.claim()
    for change in (
        lambda: old.report("one", progress=0.9),
        lambda: old.succeed("one", "done"),
        lambda: old.set_stage("one", STAGES[0], StageStatus.COMPLETED, message=""),
    ):
        with pytest.raises(ConflictError, match="expected a running job"):
            change()
    assert not old.fail("one", "late")
    assert world.jobs.get_unscoped("one").state is JobState.RUNNING


def test_cancel_ends_waiting_and_running_jobs_once(world: JobWorld) -> None:
    for name in ("one", "two", "three"):
        world.add(name)
    world.jobs.claim()
    for name in ("one", "two"):
        for _ in range(2):
            job = world.jobs.cancel(name, world.organisation)
            assert job.state is JobState.CANCELLED and "cancelled" in job.message
            assert set(job.stages.values()) == {StageStatus.FAILED}
    assert world.jobs.claim().id == "three"  # type: ignore[union-attr]
    world.jobs.succeed("three", "done")
    with pytest.raises(ConflictError, match="it has ended"):
        world.jobs.cancel_unscoped("three")
    with pytest.raises(NotFoundError, match="job_id"):
        world.jobs.cancel("one", world.organisation + 1)


def test_cancel_after_the_last_stage_still_reads_as_an_end(world: JobWorld) -> None:
    world.add("one")
    world.jobs.claim()
    for stage in STAGES:
        world.jobs.set_stage("one", stage, StageStatus.COMPLETED, message="")
    assert list(world.jobs.cancel_unscoped("one").stages.values())[-1] is StageStatus.FAILED


def test_every_end_is_told_until_it_is_acknowledged(world: JobWorld) -> None:
    for name in ("one", "two"):
        world.add(name)
    world.finish("one")
    assert [job.id for job in world.jobs.unannounced()] == ["one"]
    world.jobs.cancel_unscoped("two")
    world.jobs.announced("one")
    assert [job.id for job in world.jobs.unannounced()] == ["two"]


def test_a_clock_that_is_set_back_holds_no_job_up(world: JobWorld) -> None:
    world.now = 1_000_000.0
    world.add("job-1")
    world.jobs.claim()
    world.jobs.requeue("job-1", "full", counts=False, delay=30)
    assert world.jobs.claim() is None
    world.now -= 86_400
    assert world.jobs.claim().id == "job-1"  # type: ignore[union-attr]


def test_progress_never_goes_back(world: JobWorld) -> None:
    """Another attempt does work again: the client sees it stand still."""
    world.add("job-1")
    world.jobs.claim()
    world.jobs.report("job-1", progress=0.6, message="Asking")
    world.jobs.requeue("job-1", "died", counts=True)
    assert world.jobs.claim().progress == 0.6  # type: ignore[union-attr]
    seen = []
    for progress in (0.1, 0.5, 0.7):
        world.jobs.report("job-1", progress=progress, message="Asking")
        seen.append(world.jobs.get_unscoped("job-1").progress)
        world.jobs.set_stage(
            "job-1", STAGES[0], StageStatus.COMPLETED, message="m", progress=progress
        )
        seen.append(world.jobs.get_unscoped("job-1").progress)
    assert seen == [0.6, 0.6, 0.6, 0.6, 0.7, 0.7]
    world.jobs.report("job-1", message="Done")
    assert world.jobs.get_unscoped("job-1").progress == 0.7
