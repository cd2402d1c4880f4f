"""Runs one job's pipeline and writes its news to the database."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

from modelward.domain import (
    ConflictError,
    ModelwardError,
    SandboxOptions,
    Stage,
    StageStatus,
    UnavailableError,
)
from modelward.jobs.checkpoints import Checkpoints, Snapshot
from modelward.jobs.gates import DECLINED, find_gate
from modelward.jobs.pipeline import (
    DefenseDeclined,
    Interrupted,
    Pipeline,
    StageContext,
    load_pipeline,
)
from modelward.jobs.progress import DONE, JobProgress
from modelward.jobs.records import Artifact, Job
from modelward.storage import BlobStore, disk_trouble

__all__ = ["SCRATCH", "STAGE_LABELS", "Outcome", "run_job"]

SCRATCH = "tmp"
"""Folder for temporary files inside a job's own."""
_LOG = logging.getLogger(__name__)
_EVERY_SECONDS = 0.5

STAGE_LABELS: Mapping[Stage, str] = {
    Stage.MODEL_EXPLORATION: "Model exploration",
    Stage.SANITY_CHECK: "Sanity check",
    Stage.QUERY_GENERATOR: "Query generation",
    Stage.VULNERABILITY_ENGINE: "Vulnerability engine",
    Stage.EVASION_ANALYSIS: "Evasion analysis",
    Stage.DEFENSE_REPORT: "Defence and report",
    Stage.SUPPLY_CHAIN: "Supply chain",
}


class Outcome(IntEnum):
    """How a worker ended; its exit code."""

    DONE = 0
    """The job ended well."""
    FAILED = 1
    """The job ended badly, or was ended by somebody else."""
    TROUBLE = 75
    """Disk or database could not be used; another attempt may do better."""
    INTERRUPTED = 76
    """Asked to stop; what was reached is kept."""


@dataclass
class _DatabaseSink:
    """Writes at most twice a second, so that a chatty stage does not occupy the database."""

    job_id: str
    store: JobProgress
    blobs: BlobStore
    base: float = 0.0
    share: float = 0.0
    written: float = field(default=-_EVERY_SECONDS)
    published: dict[str, float] = field(default_factory=dict)
    """What the stage at work published."""
    made: list[Artifact] = field(default_factory=list)
    """What the stage at work made."""

    def begin(self, share: float) -> None:
        self.share, self.published, self.made = share, {}, []

    def progress(self, fraction: float, message: str) -> None:
        now = time.monotonic()
        if now - self.written < _EVERY_SECONDS and fraction < 1:
            return
        self.written = now
        # The sentence ends polling loops, so no stage may say it by chance.
        text = message if message != DECLINED else "Deciding about the defence"
        try:
            self.store.report(self.job_id, progress=self.base + self.share * fraction, message=text)
        except UnavailableError as error:
            # News may be missed; the work is worth more.
            _LOG.warning("progress was not written: %s", error)

    def publish(self, values: Mapping[str, float]) -> None:
        if values:
            numbers = {key: float(value) for key, value in values.items()}
            self.published |= numbers
            self.store.report(self.job_id, **numbers)

    def put_artifact(self, name: str, content: Path | bytes) -> None:
        blob = f"artifacts/{self.job_id}/{name}"
        if isinstance(content, bytes):
            size = self.blobs.put_bytes(blob, content)
        else:
            size = self.blobs.put_file(blob, content)
        self.made.append(Artifact(name=name, blob=blob, size=size))
        self.store.add_artifact(self.job_id, self.made[-1])

    def put_back(self, published: Mapping[str, float], made: list[Mapping[str, Any]]) -> None:
        """Write again what a finished stage had written; a power cut may have taken it."""
        for entry in made:
            artifact = Artifact(**entry)
            if self.blobs.size(artifact.blob) != artifact.size:
                raise ValueError(f"expected the file {artifact.blob}; it is not there as it was")
            self.store.add_artifact(self.job_id, artifact)
        self.publish(published)


def run_job(
    job_id: str,
    store: JobProgress,
    blobs: BlobStore,
    workdir: Path,
    *,
    checkpoints: Checkpoints | None = None,
    stopping: Callable[[], bool] = bool,
    sandbox: SandboxOptions | None = None,
) -> Outcome:
    """Run a job from where it stands; whatever goes wrong for good is written to the job.

    Args:
        job_id: A job marked running.
        store: The jobs.
        blobs: The files.
        workdir: Scratch folder of this job; removed before and after.
        checkpoints: What earlier workers reached; None: from the beginning, and nothing is kept.
        stopping: Whether this worker was asked to stop at the next checkpoint.
        sandbox: How models that carry code are run; None: with the defaults.
    """
    try:
        job = store.get_unscoped(job_id)
        options = sandbox or SandboxOptions()
        _run(_Run(job, store, blobs, workdir, checkpoints, stopping, options))
    except Interrupted:
        _LOG.warning("job %s stops at a checkpoint, as it was asked to", job_id)
        return Outcome.INTERRUPTED
    except ConflictError as error:
        # Someone ended the job from outside (cancelled); there is nothing left to write.
        _LOG.warning("job %s stopped: %s", job_id, error)
        return Outcome.FAILED
    except Exception as error:
        return _failed(job_id, store, error)
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    return Outcome.DONE


def _failed(job_id: str, store: JobProgress, error: Exception) -> Outcome:
    """Tell what is wrong with the job from what is wrong with the machine."""
    if trouble := disk_trouble(error):
        _LOG.error("job %s: %s", job_id, trouble, exc_info=error)
        return Outcome.TROUBLE
    if isinstance(error, ModelwardError):
        _LOG.warning("job %s failed: %s", job_id, error)
        message = error.message
    else:
        _LOG.error("job %s failed", job_id, exc_info=error)
        message = f"Internal error: {type(error).__name__}: {error}"[:2000]
    try:
        store.fail(job_id, message)
    except UnavailableError:
        _LOG.exception("job %s: its end was not written", job_id)
        return Outcome.TROUBLE
    return Outcome.FAILED


@dataclass(frozen=True)
class _Run:
    job: Job
    store: JobProgress
    blobs: BlobStore
    workdir: Path
    checkpoints: Checkpoints | None
    stopping: Callable[[], bool]
    sandbox: SandboxOptions


def _run(run: _Run) -> None:
    job, blobs, workdir = run.job, run.blobs, run.workdir
    shutil.rmtree(workdir, ignore_errors=True)
    (workdir / SCRATCH).mkdir(parents=True)
    gate = find_gate(job.task, job.analysis)
    pipeline = load_pipeline(job.task, job.analysis)
    if tuple(stage for stage, _ in pipeline.stages) != gate.stages:
        raise TypeError(f"pipeline: expected the stages {gate.stages}; got {pipeline.stages}")
    sink = _DatabaseSink(job.id, run.store, blobs)
    context = StageContext(
        job_id=job.id,
        model_id=job.model_id,
        task=job.task,
        analysis=job.analysis,
        payload=job.payload,
        config=gate.load(job.config),
        inputs={
            slot: blobs.fetch(key, workdir / "inputs" / f"{slot}.zip")
            for slot, key in job.inputs.items()
        },
        workdir=workdir,
        created=datetime.fromtimestamp(job.created, tz=UTC),
        sink=sink,
        checkpoints=run.checkpoints if pipeline.save and pipeline.restore else None,
        stopping=run.stopping,
        sandbox=run.sandbox,
    )
    _run_stages(pipeline, context, sink, run)


def _run_stages(pipeline: Pipeline, context: StageContext, sink: _DatabaseSink, run: _Run) -> None:
    store, reached = run.store, run.job.stages
    weights = {stage: pipeline.weights.get(stage, 1.0) for stage, _ in pipeline.stages}
    total = sum(weights.values())
    resuming = context.checkpoints is not None
    for stage, work in pipeline.stages:
        if context.stopping() and context.checkpoints:
            raise Interrupted
        sink.begin(weights[stage] / total)
        # A finished stage stays finished in the status while it is put back.
        done = resuming and reached.get(stage) in DONE
        shown = reached[stage] if done else StageStatus.IN_PROGRESS
        store.set_stage(context.job_id, stage, shown, message=STAGE_LABELS[stage])
        context.began, context.earlier_seconds = time.perf_counter(), 0.0
        # The first stage that cannot be taken over is run, and all after it.
        record = _take_over(pipeline, context, sink, stage) if resuming else None
        resuming = record is not None
        if done and not resuming:
            store.set_stage(
                context.job_id, stage, StageStatus.IN_PROGRESS, message=STAGE_LABELS[stage]
            )
        record = record or _work(pipeline, context, sink, stage, work)
        context.stage_seconds[stage.value] = record["seconds"]
        declined = bool(record["declined"])
        if not (declined and stage is Stage.DEFENSE_REPORT):
            status = StageStatus.PASSED if stage is Stage.SANITY_CHECK else StageStatus.COMPLETED
            store.set_stage(
                context.job_id,
                stage,
                status,
                message=f"{STAGE_LABELS[stage]}: done",
                seconds=record["seconds"],
                progress=sink.base + sink.share,
            )
        if declined:
            store.succeed(context.job_id, DECLINED, skipped=Stage.DEFENSE_REPORT)
            return
        sink.base += sink.share
    store.succeed(context.job_id, "Analysis completed")


def _work(
    pipeline: Pipeline,
    context: StageContext,
    sink: _DatabaseSink,
    stage: Stage,
    work: Callable[[StageContext], None],
) -> Mapping[str, Any]:
    """Run a stage and keep what it leaves."""
    context.began, context.earlier_seconds = time.perf_counter(), 0.0
    declined = False
    try:
        work(context)
    except DefenseDeclined:
        declined = True
    record = {
        "seconds": context.earlier_seconds + time.perf_counter() - context.began,
        "declined": declined,
        "published": sink.published,
        "made": [asdict(artifact) for artifact in sink.made],
    }
    if context.checkpoints and pipeline.save:
        left = pipeline.save(context, stage)
        values = {"record": record, "left": dict(left.values)}
        context.checkpoints.save(stage.value, Snapshot(values, left.arrays))
    return record


def _take_over(
    pipeline: Pipeline, context: StageContext, sink: _DatabaseSink, stage: Stage
) -> Mapping[str, Any] | None:
    """Put back what a stage left in an earlier worker; None where it has to be run."""
    found = context.checkpoints.load(stage.value) if context.checkpoints else None
    if found is None or pipeline.restore is None:
        return None
    try:
        record: Mapping[str, Any] = found.values["record"]
        pipeline.restore(context, stage, Snapshot(found.values["left"], found.arrays))
        sink.put_back(record["published"], record["made"])
    except (ConflictError, UnavailableError):
        raise
    except Exception:
        _LOG.exception("checkpoint of %s cannot be used; the stage is run again", stage.value)
        sink.begin(sink.share)
        return None
    _LOG.info("stage %s is taken over from an earlier attempt", stage.value)
    return record
