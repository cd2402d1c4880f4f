"""Runs one job's pipeline and writes its news to the database."""

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from modelward.domain import ConflictError, ModelwardError, SandboxOptions, Stage, StageStatus
from modelward.jobs.gates import DECLINED, find_gate
from modelward.jobs.pipeline import DefenseDeclined, Pipeline, StageContext, load_pipeline
from modelward.jobs.store import Artifact, Job, JobStore
from modelward.storage import BlobStore

__all__ = ["STAGE_LABELS", "run_job"]

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


@dataclass
class _DatabaseSink:
    """Writes at most twice a second, so that a chatty stage does not occupy the database."""

    job_id: str
    store: JobStore
    blobs: BlobStore
    base: float = 0.0
    share: float = 0.0
    written: float = field(default=-_EVERY_SECONDS)

    def progress(self, fraction: float, message: str) -> None:
        now = time.monotonic()
        if now - self.written < _EVERY_SECONDS and fraction < 1:
            return
        self.written = now
        # The sentence ends polling loops, so no stage may say it by chance.
        text = message if message != DECLINED else "Deciding about the defence"
        self.store.report(self.job_id, progress=self.base + self.share * fraction, message=text)

    def publish(self, values: Mapping[str, float]) -> None:
        if values:
            self.store.report(self.job_id, **{key: float(value) for key, value in values.items()})

    def put_artifact(self, name: str, content: Path | bytes) -> None:
        blob = f"artifacts/{self.job_id}/{name}"
        if isinstance(content, bytes):
            size = self.blobs.put_bytes(blob, content)
        else:
            size = self.blobs.put_file(blob, content)
        self.store.add_artifact(self.job_id, Artifact(name=name, blob=blob, size=size))


def run_job(
    job_id: str,
    store: JobStore,
    blobs: BlobStore,
    workdir: Path,
    sandbox: SandboxOptions | None = None,
) -> bool:
    """Run a job to its end; whatever goes wrong is written to the job.

    Args:
        job_id: A job marked running.
        store: The jobs.
        blobs: The files.
        workdir: Scratch folder of this job; removed at the end.
        sandbox: How models that carry code are run; None: with the defaults.

    Returns:
        Whether the job ended well.
    """
    try:
        _run(store.get(job_id), store, blobs, workdir, sandbox or SandboxOptions())
    except ConflictError as error:
        # Someone ended the job from outside (server restart); there is nothing left to write.
        _LOG.warning("job %s stopped: %s", job_id, error)
        return False
    except ModelwardError as error:
        _LOG.warning("job %s failed: %s", job_id, error)
        store.fail(job_id, error.message)
        return False
    except Exception as error:
        _LOG.exception("job %s failed", job_id)
        store.fail(job_id, f"Internal error: {type(error).__name__}: {error}"[:2000])
        return False
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    return True


def _run(
    job: Job, store: JobStore, blobs: BlobStore, workdir: Path, sandbox: SandboxOptions
) -> None:
    gate = find_gate(job.task, job.analysis)
    pipeline = load_pipeline(job.task, job.analysis)
    if tuple(stage for stage, _ in pipeline.stages) != gate.stages:
        raise TypeError(f"pipeline: expected the stages {gate.stages}; got {pipeline.stages}")
    workdir.mkdir(parents=True, exist_ok=True)
    sink = _DatabaseSink(job.id, store, blobs)
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
        sandbox=sandbox,
    )
    _run_stages(pipeline, context, sink, store)


def _run_stages(
    pipeline: Pipeline, context: StageContext, sink: _DatabaseSink, store: JobStore
) -> None:
    weights = {stage: pipeline.weights.get(stage, 1.0) for stage, _ in pipeline.stages}
    total = sum(weights.values())
    for stage, work in pipeline.stages:
        sink.share = weights[stage] / total
        store.set_stage(context.job_id, stage, StageStatus.IN_PROGRESS, message=STAGE_LABELS[stage])
        began = time.perf_counter()
        declined = False
        try:
            work(context)
        except DefenseDeclined:
            declined = True
        seconds = time.perf_counter() - began
        context.stage_seconds[stage.value] = seconds
        if not (declined and stage is Stage.DEFENSE_REPORT):
            status = StageStatus.PASSED if stage is Stage.SANITY_CHECK else StageStatus.COMPLETED
            store.set_stage(
                context.job_id,
                stage,
                status,
                message=f"{STAGE_LABELS[stage]}: done",
                seconds=seconds,
                progress=sink.base + sink.share,
            )
        if declined:
            store.succeed(context.job_id, DECLINED, skipped=Stage.DEFENSE_REPORT)
            return
        sink.base += sink.share
    store.succeed(context.job_id, "Analysis completed")
