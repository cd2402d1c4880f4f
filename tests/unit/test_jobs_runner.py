"""A worker's way through the stages: what is taken over, run again, kept or given up."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_world import STAGES, JobWorld

from modelward.domain import AssessmentError, Stage, StorageFullError, parse_image_extraction
from modelward.jobs import DECLINED, Pipeline, Snapshot, StageContext, register
from modelward.jobs.checkpoints import Checkpoints
from modelward.jobs.progress import JobProgress
from modelward.jobs.records import JobState
from modelward.jobs.runner import Outcome, run_job

PAIR = ("image_classification", "extraction")
Hook = Callable[[StageContext], None]


class Killed(BaseException):
    """Stands for the death of the process: nothing handles it."""


class Rig:
    """One job under a pipeline that counts, and that a test can break at any stage."""

    def __init__(self, folder: Path) -> None:
        self.world = JobWorld(folder / "data")
        payload = {"input_dimensions": "(8, 8, 1)", "number_of_classes": 3}
        config = parse_image_extraction(payload).model_dump(mode="json")
        self.world.add("job", payload=payload)
        from modelward.jobs.tables import jobs

        with self.world.database.write() as connection:
            connection.execute(jobs.update().values(config=config))
        self.ran: list[Stage] = []
        self.hooks: dict[Stage, Hook] = {}
        self.restored: Callable[[], None] = lambda: None
        self.resumable = True
        self.checkpoints = folder / "checkpoints"
        self.work = folder / "work"

    def build(self) -> Pipeline:
        def stage(which: Stage) -> Hook:
            def run(context: StageContext) -> None:
                self.ran.append(which)
                context.shared["total"] = context.shared.get("total", 0.0) + 0.1 * len(self.ran)
                context.workdir.joinpath(which.value).write_text("x")
                context.put_artifact(f"{which.value}.json", which.value.encode())
                if which is Stage.SANITY_CHECK:
                    context.publish(original_accuracy=0.5)
                self.hooks.get(which, lambda _context: None)(context)

            return run

        def save(context: StageContext, _stage: Stage) -> Snapshot:
            return Snapshot({"total": context.shared["total"]}, {"x": np.arange(3)})

        def restore(context: StageContext, _stage: Stage, left: Snapshot) -> None:
            context.shared["total"] = left.values["total"]
            self.restored()

        return Pipeline(
            stages=tuple((which, stage(which)) for which in STAGES),
            save=save if self.resumable else None,
            restore=restore if self.resumable else None,
        )

    def run(self, *, stopping: bool = False) -> Outcome:
        """One attempt; ``Killed`` is its death."""
        job = self.world.jobs.claim()
        assert job
        self.ran.clear()
        store = JobProgress(self.world.database, lambda: self.world.now, attempt=job.attempts)
        try:
            return run_job(
                "job",
                store,
                self.world.blobs,
                self.work,
                checkpoints=Checkpoints(self.checkpoints, pause=0),
                stopping=lambda: stopping,
            )
        except Killed:
            return Outcome.TROUBLE
        finally:
            if self.world.jobs.get_unscoped("job").state is JobState.RUNNING:
                self.world.jobs.requeue("job", "died", counts=True)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    register(*PAIR, made.build, replace=True)
    yield made
    register(*PAIR, "modelward.jobs.pipelines.image_extraction:build", replace=True)


def _die(_context: StageContext) -> None:
    raise Killed


@pytest.mark.parametrize("number", range(5))
def test_another_worker_goes_on_from_the_last_finished_stage(rig: Rig, number: int) -> None:
    rig.hooks[STAGES[number]] = _die
    assert rig.run() is Outcome.TROUBLE
    assert rig.ran == list(STAGES[: number + 1])
    rig.hooks.clear()
    assert rig.run() is Outcome.DONE
    assert rig.ran == list(STAGES[number:])
    job = rig.world.jobs.get_unscoped("job")
    assert (job.state, job.attempts, job.original_accuracy) == (JobState.SUCCEEDED, 2, 0.5)
    assert set(job.stage_seconds) == {stage.value for stage in STAGES}
    assert set(rig.world.jobs.artifacts("job", rig.world.organisation)) == {
        f"{stage.value}.json" for stage in STAGES
    }
    assert not rig.work.exists()


def _statuses(rig: Rig) -> list[str]:
    return [status.value for status in rig.world.jobs.get_unscoped("job").stages.values()]


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (None, ["completed passed completed na na"] * 3),
        # what cannot be taken over is run again, and everything after it
        (1, ["completed passed completed na na"]),
    ],
)  # fmt: skip
def test_finished_stages_stay_finished_while_they_are_put_back(
    rig: Rig, damaged: int | None, expected: list[str]
) -> None:
    rig.hooks[STAGES[3]] = _die
    rig.run()
    rig.hooks.clear()
    seen: list[str] = []
    rig.restored = lambda: seen.append(" ".join(_statuses(rig)))
    again: list[str] = []
    for stage in STAGES:
        rig.hooks[stage] = lambda _context: again.append(" ".join(_statuses(rig)))
    if damaged is not None:
        (rig.checkpoints / f"{STAGES[damaged].value}.json").write_text("{}")
    assert rig.run() is Outcome.DONE
    assert seen == expected
    last = ["completed passed completed inprogress na", "completed passed completed completed "
            "inprogress"]  # fmt: skip
    middle = ["completed inprogress na na na", "completed passed inprogress na na"]
    assert again == (last if damaged is None else middle + last)
    assert _statuses(rig) == ["completed", "passed", *["completed"] * 3]


def test_a_damaged_checkpoint_means_that_its_stage_is_run_again(rig: Rig) -> None:
    rig.hooks[STAGES[3]] = _die
    rig.run()
    path = rig.checkpoints / f"{STAGES[1].value}.json"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    rig.hooks.clear()
    assert rig.run() is Outcome.DONE
    assert rig.ran == list(STAGES[1:])
    assert rig.world.jobs.get_unscoped("job").original_accuracy == 0.5


def test_a_lost_file_means_that_its_stage_is_run_again(rig: Rig) -> None:
    rig.hooks[STAGES[3]] = _die
    rig.run()
    rig.world.blobs.put_bytes(f"artifacts/job/{STAGES[2].value}.json", b"")  # after a power cut
    rig.hooks.clear()
    assert rig.run() is Outcome.DONE
    assert rig.ran == list(STAGES[2:])
    assert rig.world.blobs.read(f"artifacts/job/{STAGES[2].value}.json") == b"QueryGenerator_Status"


def test_a_pipeline_that_keeps_nothing_begins_anew(rig: Rig) -> None:
    rig.resumable = False
    rig.hooks[STAGES[3]] = _die
    rig.run()
    rig.hooks.clear()
    assert rig.run() is Outcome.DONE
    assert rig.ran == list(STAGES)
    assert not rig.checkpoints.exists()


def test_a_declined_defence_is_remembered(rig: Rig) -> None:
    rig.hooks[STAGES[3]] = lambda context: context.decline_defense()
    succeed = JobProgress.succeed

    def die(*_arguments: Any, **_options: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(JobProgress, "succeed", die)
        rig.run()
    assert JobProgress.succeed is succeed
    assert rig.run() is Outcome.DONE
    assert rig.ran == []
    assert rig.world.jobs.get_unscoped("job").message == DECLINED


def test_a_note_inside_a_stage_carries_its_time_and_its_state(rig: Rig) -> None:
    def half_way(context: StageContext) -> None:
        found = context.recall("half")
        if found is None:
            context.began -= 100  # as if this had taken long
            context.note("half", Snapshot({"n": 41}, {"y": np.arange(2)}))
            raise Killed
        assert found.values == {"n": 41} and found.arrays["y"].tolist() == [0, 1]

    rig.hooks[STAGES[2]] = half_way
    assert rig.run() is Outcome.TROUBLE
    assert rig.run() is Outcome.DONE
    assert 100 < rig.world.jobs.get_unscoped("job").stage_seconds[STAGES[2].value] < 200


def test_a_worker_that_is_asked_to_stop_ends_at_a_checkpoint(rig: Rig) -> None:
    assert rig.run(stopping=True) is Outcome.INTERRUPTED
    assert rig.ran == []

    def note(context: StageContext) -> None:
        context.stopping = lambda: True
        context.note("half", Snapshot({"n": 1}))
        raise AssertionError("went on after the note")

    rig.hooks[STAGES[1]] = note
    assert rig.run() is Outcome.INTERRUPTED
    rig.hooks.clear()
    assert rig.run() is Outcome.DONE


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        StorageFullError("full"),
        OSError(errno.EROFS, "Read-only file system"),
    ],
)
def test_trouble_with_the_disk_is_no_fault_of_the_job(rig: Rig, error: Exception) -> None:
    def fail(_context: StageContext) -> None:
        raise ValueError("wrapped") from error

    rig.hooks[STAGES[2]] = fail
    assert rig.run() is Outcome.TROUBLE
    assert rig.world.jobs.get_unscoped("job").state is JobState.QUEUED
    rig.hooks.clear()
    assert rig.run() is Outcome.DONE
    assert rig.ran == list(STAGES[2:])


def test_what_is_wrong_with_the_job_itself_is_not_tried_again(rig: Rig) -> None:
    def refuse(_context: StageContext) -> None:
        raise AssessmentError("expected a picture; got noise")

    rig.hooks[STAGES[1]] = refuse
    assert rig.run() is Outcome.FAILED
    job = rig.world.jobs.get_unscoped("job")
    assert (job.state, job.message) == (JobState.FAILED, "expected a picture; got noise")
