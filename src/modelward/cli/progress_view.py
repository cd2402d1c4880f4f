"""Shows an assessment's progress: live bars on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from modelward.client import Phase, Progress
from modelward.domain import Stage, StageStatus

__all__ = ["STAGE_TITLES", "show_progress"]

STAGE_TITLES = {
    Stage.MODEL_EXPLORATION: "model exploration",
    Stage.SANITY_CHECK: "sanity check",
    Stage.QUERY_GENERATOR: "query generation",
    Stage.VULNERABILITY_ENGINE: "vulnerability engine",
    Stage.DEFENSE_REPORT: "defence",
}
_PHASES = {
    Phase.PREPARE: "prepare",
    Phase.UPLOAD: "upload",
    Phase.DOWNLOAD: "download",
}
_ENDED = frozenset({StageStatus.COMPLETED, StageStatus.PASSED, StageStatus.FAILED})


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Give a callback for ``Client.assess``."""
    if console.is_terminal:
        with _bars(console) as update:
            yield update
    else:
        yield _Lines(console)


class _Lines:
    """One line per change, without control characters, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        if progress.status is None:
            self._once(f"{progress.phase.value}: {progress.message}")
        else:
            for stage, state in progress.status.stages.items():
                if state is not StageStatus.NA and stage in STAGE_TITLES:
                    self._once(f"{STAGE_TITLES[stage]}: {state.value}")
                if state is StageStatus.FAILED:
                    break  # the wire calls all later stages failed too; they were not run
        if progress.job is not None and progress.job.monitor_link:
            self._once(f"monitor: {progress.job.monitor_link}")

    def _once(self, line: str) -> None:
        if line not in self._seen:
            self._seen.add(line)
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[Progress], None]]:
    bars = Bars(
        SpinnerColumn(finished_text="*"),
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
        console=console,
    )
    view = _LiveBars(bars, console)
    with bars:
        yield view


class _LiveBars:
    """One bar per phase of the client and per stage of the job, added as they begin."""

    def __init__(self, bars: Bars, console: Console) -> None:
        self._bars = bars
        self._console = console
        self._rows = {
            title: bars.add_task(title, total=1, start=False, visible=False, state="")
            for title in [*list(_PHASES.values())[:2], *STAGE_TITLES.values(), "download"]
        }
        self._announced = False

    def __call__(self, progress: Progress) -> None:
        if progress.job is not None and not self._announced:
            self._announced = True
            self._console.print(
                f"job {progress.job.job_id}, monitor {progress.job.monitor_link}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        if progress.status is None:
            if progress.phase in _PHASES:
                self._set(_PHASES[progress.phase], progress.fraction, progress.message)
            return
        for stage, title in STAGE_TITLES.items():
            state = progress.status.stages[stage]
            if state is StageStatus.FAILED:
                self._set(title, 1.0, state.value)
                break
            if state in _ENDED:
                self._set(title, 1.0, state.value)
            elif state is StageStatus.IN_PROGRESS:
                # The service tells the progress of the whole job, not of a stage: pulse.
                self._set(title, None, progress.message)

    def _set(self, title: str, fraction: float | None, state: str) -> None:
        row = self._rows[title]
        task = next(task for task in self._bars.tasks if task.id == row)
        if task.finished:
            return
        if not task.started:
            self._bars.start_task(row)
        total = None if fraction is None else 1.0
        self._bars.update(row, total=total, completed=fraction or 0.0, state=state, visible=True)
