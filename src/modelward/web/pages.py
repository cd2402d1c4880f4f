"""The monitor page of a job."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from modelward.domain import (
    ModelwardError,
    ReportFormat,
    ReportType,
    StageStatus,
    VulnerabilityReport,
)
from modelward.jobs import (
    DECLINED,
    STAGE_LABELS,
    AssessmentService,
    JobState,
    JobView,
    ready_downloads,
)
from modelward.scoring import severity
from modelward.web.responses import file_response

__all__ = ["add_pages"]

_REFRESH_SECONDS = 3
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    # The address holds the view token: it must not travel to other sites.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TEMPLATES = Environment(
    loader=PackageLoader("modelward.web"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
)
_TITLES = {
    ReportType.VULNERABILITY: "Vulnerability report",
    ReportType.DEFENSE: "Defence report",
    ReportType.DEFENSE_ARTIFACT: "Defence artifact",
    ReportType.ATTACK_SAMPLES: "Attack samples",
    ReportType.SURROGATE_MODEL: "Extracted model",
}
_STATES = {
    StageStatus.NA: "waiting",
    StageStatus.IN_PROGRESS: "running",
    StageStatus.COMPLETED: "completed",
    StageStatus.PASSED: "passed",
    StageStatus.FAILED: "failed",
}


_DECLINED = (
    "Analysis completed. No defence was made: the vulnerability score is not above the threshold."
)
"""For people; clients of the API read the wire's sentence."""


@dataclass(frozen=True)
class _StageRow:
    label: str
    state: str
    seconds: float | None


@dataclass(frozen=True)
class _DownloadRow:
    title: str
    links: list[tuple[str, str]]
    """(format, address)."""


def _downloads(view: JobView, token: str, root: str) -> list[_DownloadRow]:
    rows: dict[ReportType, list[tuple[str, str]]] = {}
    for report, kind in ready_downloads(view.artifacts):
        address = (
            f"{root}/jobs/{quote(view.job.id)}/files/{report.value}"
            f"?file_format={kind.wire_id}&token={quote(token)}"
        )
        label = "all formats (zip)" if _is_bundle(report, kind) else kind.value
        rows.setdefault(report, []).append((label, address))
    return [_DownloadRow(_TITLES[report], links) for report, links in rows.items()]


def _is_bundle(report: ReportType, kind: ReportFormat) -> bool:
    return kind is ReportFormat.ZIP and report in (ReportType.VULNERABILITY, ReportType.DEFENSE)


def _stages(view: JobView) -> list[_StageRow]:
    """The stages; of those that the wire calls failed, only the first one was at work."""
    rows, stopped = [], False
    for stage, status in view.job.stages.items():
        state = _STATES[status]
        if status is StageStatus.NA and view.job.state.ended:
            state = "skipped"
        elif status is StageStatus.FAILED:
            state, stopped = "not run" if stopped else view.job.state.value, True
        seconds = view.job.stage_seconds.get(stage.value)
        rows.append(_StageRow(label=STAGE_LABELS[stage], state=state, seconds=seconds))
    return rows


def _intervals(report: VulnerabilityReport | None) -> dict[str, str]:
    """What stands below the figures: intervals and sample counts, as far as they are known."""
    if report is None:
        return {}
    score, accuracy = report.score_interval, report.original_accuracy
    texts = {"score": f"{score.level * 100:g} % interval {score.low:.3f} to {score.high:.3f}"}
    if accuracy.interval is not None:
        low, high = accuracy.interval.low * 100, accuracy.interval.high * 100
        level = accuracy.interval.level * 100
        texts["accuracy"] = f"{level:g} % interval {low:.2f} to {high:.2f} %"
        texts["images"] = f"on {accuracy.n:,} uploaded images"
    return texts


def _parameter(value: object) -> str:
    """A parameter as people write it."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " × ".join(str(part) for part in value)
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _page(view: JobView, token: str, root: str) -> str:
    job = view.job
    return _TEMPLATES.get_template("job.html").render(
        root=root,
        job=job,
        running=not job.state.ended,
        failed=job.state in (JobState.FAILED, JobState.CANCELLED),
        refresh=_REFRESH_SECONDS,
        message=_DECLINED if job.message == DECLINED else job.message,
        severity=None if job.score is None else severity(job.score).value,
        stages=_stages(view),
        created=_time(job.created),
        finished=_time(job.finished),
        intervals=_intervals(view.report),
        warnings=view.report.warnings if view.report else (),
        parameters=[(name, _parameter(value)) for name, value in sorted(job.config.items())],
        downloads=_downloads(view, token, root),
    )


def add_pages(app: FastAPI, service: AssessmentService) -> None:
    """Add the pages and their style sheet to the app."""
    root = urlsplit(service.settings.base_url).path.rstrip("/")
    static = Path(__file__).parent / "static"
    app.mount("/static", StaticFiles(directory=static), name="static")

    def refuse(error: ModelwardError) -> Response:
        page = _TEMPLATES.get_template("error.html").render(
            root=root, status=error.status, message=error.message
        )
        return HTMLResponse(page, error.status, headers=_HEADERS)

    @app.get("/", include_in_schema=False)
    async def home() -> Response:
        return RedirectResponse(f"{root}/docs")

    @app.get("/jobs/{job_id}", include_in_schema=False)
    async def monitor(request: Request, job_id: str) -> Response:
        token = request.query_params.get("token", "")
        try:
            view = await run_in_threadpool(service.visits.view, job_id, token)
        except ModelwardError as error:
            return refuse(error)
        return HTMLResponse(_page(view, token, root), headers=_HEADERS)

    @app.get("/jobs/{job_id}/files/{report}", include_in_schema=False)
    async def file(request: Request, job_id: str, report: str) -> Response:
        try:
            token = request.query_params.get("token")
            wanted = request.query_params.get("file_format")
            download = await run_in_threadpool(
                service.download_by_link, job_id, token, report, wanted
            )
            return await file_response(download, service.blobs)
        except ModelwardError as error:
            return refuse(error)
