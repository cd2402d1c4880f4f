"""A job's work as an ordered list of stages, and the registry of pipelines by pair."""

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol

from modelward.domain import InvalidParameterError, SandboxOptions, Stage
from modelward.jobs.checkpoints import Checkpoints, Snapshot

__all__ = [
    "DefenseDeclined",
    "Interrupted",
    "JobSink",
    "Pipeline",
    "StageContext",
    "load_pipeline",
    "register",
    "registered_pairs",
]


class DefenseDeclined(Exception):
    """Raised by :meth:`StageContext.decline_defense`; let it pass."""


class Interrupted(BaseException):
    """The worker was asked to stop, and what it did is kept; stages let it pass."""


class JobSink(Protocol):
    """Where a job's news goes; the job process writes it to the database."""

    def progress(self, fraction: float, message: str) -> None:
        """Progress of the stage at work, 0 to 1."""

    def publish(self, values: Mapping[str, float]) -> None:
        """Numbers shown before the job ends."""

    def put_artifact(self, name: str, content: Path | bytes) -> None:
        """Keep a file."""


@dataclass
class StageContext:
    """What a stage gets, and how it talks back."""

    job_id: str
    model_id: str
    task: str
    analysis: str
    payload: dict[str, Any]
    """The request as it came."""
    config: Any
    """The same, checked and typed (ImageExtractionConfig for image extraction)."""
    inputs: dict[str, Path]
    """Local copy of each uploaded archive by slot; read only."""
    workdir: Path
    """Scratch folder, removed when the job ends."""
    created: datetime
    """When the job was queued, UTC."""
    sink: JobSink
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of the finished stages by wire name."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What one stage leaves for the next."""
    checkpoints: Checkpoints | None = None
    """Where checkpoints are kept; None: nowhere."""
    stopping: Callable[[], bool] = bool
    """Whether the worker was asked to stop at the next checkpoint."""
    earlier_seconds: float = 0.0
    """Time that an earlier worker spent on this stage, where its work is taken over."""
    began: float = field(default_factory=time.perf_counter)
    """Start of this stage on the clock of ``time.perf_counter``."""
    sandbox: SandboxOptions = field(default_factory=SandboxOptions)
    """How models that carry code are run."""

    def progress(self, fraction: float, message: str) -> None:
        """Report progress of this stage.

        Args:
            fraction: 0 to 1.
            message: Shown as the job's current status.
        """
        self.sink.progress(min(1.0, max(0.0, fraction)), message)

    def publish(
        self, *, score: float | None = None, original_accuracy: float | None = None
    ) -> None:
        """Show measured numbers before the job ends; None leaves a number as it is."""
        given = {"score": score, "original_accuracy": original_accuracy}
        self.sink.publish({name: value for name, value in given.items() if value is not None})

    def put_artifact(self, name: str, content: Path | bytes) -> None:
        """Keep a file for download.

        Args:
            name: ``Vulnerability.json|txt|xml|pdf``, ``Defense.*``, ``Attack_samples.zip``,
                ``Defense_artifact.zip`` or ``Surrogate_model.zip``.
            content: The file, or its bytes where it is small.
        """
        self.sink.put_artifact(name, content)

    def recall(self, name: str) -> Snapshot | None:
        """What an earlier worker noted inside this stage; None where there is nothing."""
        found = self.checkpoints.load(name) if self.checkpoints else None
        if found is None:
            return None
        self.earlier_seconds = float(found.values["seconds"])
        return Snapshot(found.values["values"], found.arrays)

    def note_due(self) -> bool:
        """Whether a long stage should note where it is, at the next point where it can."""
        return self.checkpoints is not None and (self.stopping() or self.checkpoints.due())

    def note(self, name: str, snapshot: Snapshot) -> None:
        """Keep where a long stage is; the work up to here need not be done again.

        Args:
            name: Letters, digits and _; a later note of the same name replaces this one.
            snapshot: All that the stage needs to go on, random generators included.

        Raises:
            Interrupted: The worker was asked to stop.
        """
        if self.checkpoints is None:
            return
        seconds = self.earlier_seconds + time.perf_counter() - self.began
        values = {"seconds": seconds, "values": dict(snapshot.values)}
        if self.checkpoints.save(name, Snapshot(values, snapshot.arrays)) and self.stopping():
            raise Interrupted

    def decline_defense(self) -> NoReturn:
        """End the job well without a defence; call it from the stage that decides."""
        raise DefenseDeclined


@dataclass(frozen=True)
class Pipeline:
    """Stages in order; each function does one and may leave results in ``context.shared``."""

    stages: tuple[tuple[Stage, Callable[[StageContext], None]], ...]
    weights: Mapping[Stage, float] = field(default_factory=dict)
    """Expected share of the wall time, for the progress bar; 1 where a stage is missing."""
    save: Callable[[StageContext, Stage], Snapshot] | None = None
    """What later stages need of one that has just finished."""
    restore: Callable[[StageContext, Stage, Snapshot], None] | None = None
    """Puts back what ``save`` gave, in a new process. A pipeline without both begins anew when
    its worker dies. Whatever it raises, the stage is run again."""


Factory = Callable[[], Pipeline]
_REGISTRY: dict[tuple[str, str], str | Factory] = {}


def register(task: str, analysis: str, factory: str | Factory, *, replace: bool = False) -> None:
    """Name the pipeline of a pair.

    Args:
        task: Value of the TaskType.
        analysis: Value of the AnalysisType.
        factory: A function that builds it, or ``"package.module:function"``, imported by the
            job process only.
        replace: Whether an earlier entry may be replaced.

    Raises:
        ValueError: The pair has a pipeline already.
    """
    if (task, analysis) in _REGISTRY and not replace:
        raise ValueError(f"pipeline of ({task}, {analysis}): expected one; this is a second")
    _REGISTRY[task, analysis] = factory


def registered_pairs() -> frozenset[tuple[str, str]]:
    """Pairs that have a pipeline."""
    return frozenset(_REGISTRY)


def load_pipeline(task: str, analysis: str) -> Pipeline:
    """Build the pipeline of a pair.

    Raises:
        InvalidParameterError: The pair has none.
    """
    try:
        factory = _REGISTRY[task, analysis]
    except KeyError:
        known = ", ".join(f"{t} + {a}" for t, a in sorted(_REGISTRY))
        raise InvalidParameterError(
            f"pair: expected one of {known}; got {task} + {analysis}"
        ) from None
    if isinstance(factory, str):
        module, _, function = factory.partition(":")
        factory = getattr(importlib.import_module(module), function)
    pipeline = factory()
    if not isinstance(pipeline, Pipeline):
        raise TypeError(f"pipeline of ({task}, {analysis}): expected a Pipeline; got {pipeline!r}")
    return pipeline


register(
    "image_classification",
    "extraction",
    "modelward.jobs.pipelines.image_extraction:build",
)
