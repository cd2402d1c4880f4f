"""The durable queue: order, states, and what a job that ended refuses."""

from pathlib import Path

import pytest
from sqlalchemy import inspect

from modelward.domain import (
    AnalysisType,
    ConflictError,
    NotFoundError,
    Stage,
    StageStatus,
    TaskType,
    UploadDialect,
)
from modelward.jobs.database import Database, exclusive
from modelward.jobs.registrations import Registrations, Upload
from modelward.jobs.status import job_status
from modelward.jobs.store import Artifact, JobState, JobStore
from modelward.jobs.tables import metadata
from modelward.jobs.tenants import Tenants
from modelward.settings import Settings

STAGES = (Stage.MODEL_EXPLORATION, Stage.SANITY_CHECK, Stage.VULNERABILITY_ENGINE)


class World:
    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.database = Database(folder)
        self.database.migrate()
        tenants = Tenants(self.database, Settings(data=folder), lambda: self.now)
        self.organisation = tenants.organisation(tenants.create("a").organisation_id)
        self.registrations = Registrations(self.database, lambda: self.now)
        self.jobs = JobStore(self.database, lambda: self.now)
        self.model = self.registrations.add(
            self.organisation,
            TaskType.IMAGE_CLASSIFICATION,
            AnalysisType.EXTRACTION,
            UploadDialect.PUT,
        ).id

    def add(self, name: str, **inputs: str) -> None:
        self.now += 1
        self.jobs.add(
            job_id=name,
            organisation=self.organisation,
            model_id=self.model,
            pair=("image_classification", "extraction"),
            payload={},
            config={},
            inputs=inputs,
            stages=STAGES,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_migrations_make_the_tables_that_the_code_uses(world: World) -> None:
    with world.database.read() as connection:
        found = inspect(connection)
        for table in metadata.sorted_tables:
            columns = {column["name"]: column for column in found.get_columns(table.name)}
            assert set(columns) == {column.name for column in table.columns}
            for column in table.columns:
                assert columns[column.name]["nullable"] == column.nullable
                assert str(columns[column.name]["type"]) == str(column.type)
    world.database.migrate()  # a second time changes nothing


def test_jobs_are_taken_in_order_and_once(world: World) -> None:
    for name in ("first", "second"):
        world.add(name)
    taken = [world.jobs.claim(), world.jobs.claim()]
    assert [job.id for job in taken if job] == ["first", "second"]
    assert world.jobs.claim() is None
    assert world.jobs.running() == ["first", "second"]


def test_failure_marks_the_stage_at_work_and_the_later_ones(world: World) -> None:
    world.add("job")
    world.jobs.claim()
    world.jobs.set_stage("job", STAGES[0], StageStatus.COMPLETED, message="", seconds=1.5)
    world.jobs.set_stage("job", STAGES[1], StageStatus.IN_PROGRESS, message="")
    assert world.jobs.fail("job", "why")
    job = world.jobs.get_unscoped("job")
    assert list(job.stages.values()) == ["completed", "failed", "failed"]
    assert (job.state, job.message) == (JobState.FAILED, "why")
    assert job.stage_seconds == {STAGES[0].value: 1.5}


def test_waiting_job_fails_from_its_first_stage(world: World) -> None:
    world.add("job")
    world.jobs.fail("job", "why")
    assert set(world.jobs.get_unscoped("job").stages.values()) == {StageStatus.FAILED}


def test_ended_job_never_changes(world: World) -> None:
    world.add("job")
    world.jobs.claim()
    world.jobs.succeed("job", "done")
    assert not world.jobs.fail("job", "too late")
    for change in (
        lambda: world.jobs.report("job", progress=0.5),
        lambda: world.jobs.succeed("job", "again"),
        lambda: world.jobs.add_artifact("job", Artifact("a", "b", 1)),
        lambda: world.jobs.set_stage("job", STAGES[0], StageStatus.FAILED, message=""),
    ):
        with pytest.raises(ConflictError, match="running job"):
            change()
    assert world.jobs.get_unscoped("job").message == "done"


def test_job_is_not_made_on_files_that_were_replaced_meanwhile(world: World) -> None:
    world.registrations.record(world.model, Upload("data", "old", 1), world.organisation)
    assert (
        world.registrations.record(world.model, Upload("data", "new", 1), world.organisation)
        == "old"
    )
    with pytest.raises(ConflictError, match="uploaded again"):
        world.add("job", data="old")
    with pytest.raises(NotFoundError, match="job_id"):
        world.jobs.get_unscoped("job")
    world.add("job", data="new")
    with pytest.raises(ConflictError, match="has started"):
        world.registrations.record(world.model, Upload("data", "newer", 1), world.organisation)


def test_ids_of_other_organisations_are_unknown(world: World) -> None:
    world.add("job")
    with pytest.raises(NotFoundError, match="job_id"):
        world.jobs.get("job", organisation=world.organisation + 1)
    with pytest.raises(NotFoundError, match="model_id"):
        world.registrations.get(world.model, organisation=world.organisation + 1)


def test_score_and_accuracy_are_na_until_measured(world: World) -> None:
    world.add("job")
    world.jobs.claim()
    status = job_status(world.jobs.get_unscoped("job"))
    assert (status["VulnerabiltyScore"], status["OriginalModelAccuracy"]) == ("na", "na")
    assert all(status[stage.value] == "na" for stage in Stage)
    world.jobs.report("job", score=0.0, original_accuracy=0.995)
    status = job_status(world.jobs.get_unscoped("job"))
    assert status["VulnerabiltyScore"] == "0.00"
    assert status["OriginalModelAccuracy"] in ("0.99", "1.00")


def test_lock_is_held_by_one(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock", wait=False) as mine:
        assert mine
        with exclusive(tmp_path / "lock", wait=False) as second:
            assert not second
    with exclusive(tmp_path / "lock", wait=False) as again:
        assert again
