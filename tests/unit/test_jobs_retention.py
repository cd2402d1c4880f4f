"""What gc and the deletion of a model remove, and what they leave."""

import os
import time
from pathlib import Path

import pytest
from job_world import JobWorld
from sqlalchemy import select

from modelward.domain import ConflictError, NotFoundError
from modelward.jobs.checkpoints import checkpoint_folder
from modelward.jobs.deletion import Removed
from modelward.jobs.downloads import build_download, parse_format, parse_report
from modelward.jobs.queue import KEY_SECONDS, RequestKey
from modelward.jobs.retention import Housekeeper, collect_garbage
from modelward.jobs.tables import idempotency_keys, registrations
from modelward.settings import Settings

DAY = 86_400.0


@pytest.fixture
def world(tmp_path: Path) -> JobWorld:
    made = JobWorld(tmp_path)
    made.model = made.new_model(slots=("data", "model"))
    return made


def _collect(world: JobWorld, days: float, *, dry_run: bool = False) -> Removed:
    return collect_garbage(
        world.database,
        world.blobs,
        world.data,
        older_than=days * DAY,
        now=world.now,
        dry_run=dry_run,
    )


def _leave_behind(world: JobWorld, job: str) -> list[Path]:
    """What a worker leaves beside the artifacts."""
    paths = [
        world.data / "logs" / f"{job}.log",
        checkpoint_folder(world.data, job) / "stage.json",
        world.data / "work" / job / "scratch",
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return paths


def test_old_files_go_and_the_job_stays(world: JobWorld) -> None:
    world.add("job-1", key=RequestKey.of("k", {}), payload={"model_api_details": "long"})
    world.finish("job-1")
    left = _leave_behind(world, "job-1")
    assert world.jobs.get_unscoped("job-1").payload
    world.now += 10 * DAY
    assert _collect(world, 30).files == 0
    assert all(path.exists() for path in left)
    counted = _collect(world, 5, dry_run=True)
    assert (counted.files, counted.jobs) == (3, 1)
    assert len(world.blobs.keys()) == 3
    removed = _collect(world, 5)
    assert removed == counted
    assert world.blobs.keys() == [] and not any(path.exists() for path in left)
    job = world.jobs.get_unscoped("job-1")
    assert (job.state, job.purged, job.payload) == ("succeeded", world.now, {})
    with pytest.raises(NotFoundError, match=r"because of their age.*register the model again"):
        build_download(
            job,
            world.jobs.artifacts("job-1", world.organisation),
            world.blobs,
            parse_report("Vulnerability"),
            parse_format("3"),
        )
    assert _collect(world, 5) == Removed()
    with world.database.read() as connection:
        assert connection.execute(select(idempotency_keys)).first() is None
    assert world.now > KEY_SECONDS


def test_waiting_and_running_jobs_are_left_alone(world: JobWorld) -> None:
    world.add("job-1")
    left = _leave_behind(world, "job-1")
    world.now += 100 * DAY
    for _ in range(2):
        assert _collect(world, 1).files == 0
        world.jobs.claim()
    assert len(world.blobs.keys()) == 2 and all(path.exists() for path in left)


def test_a_model_that_was_analysed_again_lately_is_not_old(world: JobWorld) -> None:
    world.add("job-1")
    world.finish("job-1")
    world.now += 10 * DAY
    world.add("job-2")
    world.finish("job-2")
    assert _collect(world, 5).files == 0


def test_registrations_that_were_never_analysed_go_as_a_whole(world: JobWorld) -> None:
    world.now += 3 * DAY
    fresh = world.new_model(slots=("data",))
    removed = _collect(world, 2)
    assert (removed.models, removed.files) == (2, 2)  # the world's first one has no files
    with world.database.read() as connection:
        assert list(connection.execute(select(registrations.c.id)).scalars()) == [fresh]


def test_files_without_an_owner_go_when_they_are_an_hour_old(world: JobWorld) -> None:
    for key in ("artifacts/job-9/x.pdf", "inputs/gone/data/1.zip"):
        world.blobs.put_bytes(key, b"12345")
    assert _collect(world, 1000).files == 0
    for key in world.blobs.keys():
        os.utime(world.data / "blobs" / key, (time.time() - 7200,) * 2)
    removed = _collect(world, 1000)
    assert (removed.files, removed.bytes) == (2, 10)
    assert len(world.blobs.keys()) == 2
    assert not (world.data / "blobs" / "artifacts").exists()


def test_half_written_files_of_dead_writers_go_too(world: JobWorld) -> None:
    """They hold what was uploaded, and no list of blobs shows them."""
    world.add("job-1")
    world.finish("job-1")
    blobs = world.data / "blobs"
    upload, fresh = (blobs / "inputs" / world.model / "data" / f"2.zip#{n}" for n in (1, 2))
    report = blobs / "artifacts" / "job-1" / "Vulnerability.pdf#1"
    other = blobs / "artifacts" / "job-2" / "Vulnerability.pdf#1"
    other.parent.mkdir()
    for path in (upload, fresh, report, other):
        path.write_bytes(b"12345")
    for path, age in ((upload, 120), (other, 7200)):
        os.utime(path, (time.time() - age,) * 2)
    counted = _collect(world, 1000, dry_run=True)
    assert (counted.files, counted.bytes) == (1, 5) and other.exists()
    assert _collect(world, 1000) == counted and not other.exists()
    world.delete(world.model)
    # the fresh one may be on its way: it is refused when it arrives
    assert [path for path in blobs.rglob("*") if path.is_file()] == [fresh]


def test_deleting_a_model_leaves_nothing_of_it(world: JobWorld) -> None:
    world.add("job-1", key=RequestKey.of("k", {}))
    world.finish("job-1", files=("Vulnerability.json", "Surrogate_model.zip"))
    left = _leave_behind(world, "job-1")
    other = world.new_model(slots=("data",))
    world.add("job-2", model_id=other)
    removed = world.delete(world.model)
    assert (removed.models, removed.jobs, removed.files) == (1, 1, 4)
    assert world.blobs.keys() == [f"inputs/{other}/data/1.zip"]
    assert not any(path.exists() for path in left)
    with pytest.raises(NotFoundError, match="job_id"):
        world.jobs.get_unscoped("job-1")
    with pytest.raises(NotFoundError, match="is gone"):
        world.delete(world.model)
    with pytest.raises(ConflictError, match=r"job-2 did not end yet\. Cancel it"):
        world.delete(other)
    assert world.jobs.get_unscoped("job-2").state == "queued"


def test_retention_runs_by_itself_where_it_is_set(world: JobWorld) -> None:
    world.add("job-1")
    world.finish("job-1")
    world.now += 10 * DAY
    for days, left in ((None, 3), (20, 3), (5, 0)):
        settings = Settings(data=world.data, retention_days=days)
        keeper = Housekeeper(world.database, world.blobs, settings, lambda: world.now)
        keeper.start()
        keeper.stop()  # waits for the collection under way
        assert len(world.blobs.keys()) == left
