"""The SDK's client: one method per call of the service."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from modelward.client.errors import JobTimeoutError, ServiceError
from modelward.client.results import (
    Assessment,
    Job,
    JobStatus,
    Progress,
    Registration,
)
from modelward.client.session import Session
from modelward.client.transport import RetryPolicy, Transport
from modelward.client.wire import (
    archive_extension,
    base_url,
    named,
    path_segment,
    upload_target,
)
from modelward.domain import (
    AnalysisType,
    InvalidInputError,
    ReportFormat,
    ReportType,
    TaskType,
)

__all__ = ["Client"]


class Client:
    """Speaks to a Modelward service (or to another that keeps the same contract).

    Whatever is not given is read from ``MODELWARD_URL``, ``MODELWARD_ORG_ID`` and
    ``MODELWARD_API_KEY``. With only the organisation id, the first call asks the service for a
    key. Ids and keys appear neither in ``repr`` nor in logs. Not safe for use by several threads
    at once.

    Args:
        url: Address of the service; the base path is appended where it is missing.
        org_id: Organisation id.
        api_key: API key.
        timeout: Seconds to wait for a connection; answers and uploads get at least 120 s.
        retries: How failed calls are repeated.
        transport: An httpx transport, for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        org_id: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = base_url(url or os.environ.get("MODELWARD_URL", ""))
        self._session = Session(
            self.url,
            org_id or os.environ.get("MODELWARD_ORG_ID") or None,
            api_key or os.environ.get("MODELWARD_API_KEY") or None,
            Transport(self.url, timeout, retries or RetryPolicy(), transport),
        )

    def __repr__(self) -> str:
        return f"Client(url={self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def register(
        self,
        task: TaskType | str = TaskType.IMAGE_CLASSIFICATION,
        analysis: AnalysisType | str = AnalysisType.EXTRACTION,
    ) -> Registration:
        """Announce a model: get its id, upload URLs and a sample analysis request.

        Args:
            task: Any spelling of the contract; ``IC``, ``TC``, ``TSF`` choose plain PUT uploads.
            analysis: Any spelling of the contract.
        """
        answer = self._session.json(
            "POST",
            "/model_registration/upload",
            "registration",
            body={"task_type": str(task), "analysis_type": str(analysis)},
        )
        data = answer.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("urls"), dict):
            raise ServiceError(
                f"registration: expected `data` with `urls`, got keys {list(answer)}"
            )
        return Registration(
            model_id=str(data["model_id"]),
            targets={t.slot: t for t in map(upload_target, data["urls"], data["urls"].values())},
            sample_payload=dict(data.get("model_analysis_payload") or {}),
        )

    def upload(self, registration: Registration, **slots: Path | str) -> None:
        """Upload files in the dialect that the service chose; large files are streamed.

        Args:
            registration: From ``register``.
            **slots: File by slot, such as ``data=Path("data.zip")``.
        """
        unknown = sorted(set(slots) - set(registration.targets))
        if unknown:
            raise InvalidInputError(
                f"upload: expected slots among {', '.join(sorted(registration.targets))}; "
                f"got {', '.join(unknown)}"
            )
        for slot, name in slots.items():
            path = Path(name)
            if not path.is_file():
                raise InvalidInputError(f"upload: expected a file for {slot}, got {path}")
            self._session.upload(registration.targets[slot], path)

    def analyse(
        self, model_id: str, payload: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Job:
        """Start an analysis of the uploaded files.

        Args:
            model_id: From ``register``.
            payload: Analysis parameters; ``Registration.sample_payload`` is a starting point.
            idempotency_key: Calls with the same key get the same job, so that a call whose answer
                was lost can be made again, also by another process; with a key the call is
                repeated after every failure. A service other than Modelward may not know it.
        """
        answer = self._session.json(
            "POST",
            f"/model_analyse/{path_segment(model_id)}",
            "analysis",
            body=dict(payload),
            idempotency_key=idempotency_key,
        )
        if not answer.get("job_id"):
            raise ServiceError(f"analysis: expected a job_id, got keys {list(answer)}")
        link = answer.get("monitor_link") or answer.get("dashboard_link") or ""
        return Job(
            job_id=str(answer["job_id"]), model_id=model_id, monitor_link=str(link), answer=answer
        )

    def status(self, job_id: str) -> JobStatus:
        """Read where a job stands."""
        answer = self._session.json(
            "GET", "/job_status_detailed", "job status", query={"job_id": job_id}
        )
        return JobStatus.from_wire(job_id, answer)

    def cancel(self, job_id: str) -> JobStatus:
        """End a job: at once where it waits, within seconds where it runs.

        A second call changes nothing.

        Raises:
            ConflictError: The job has ended by itself.
        """
        answer = self._session.json(
            "DELETE", f"/jobs/{path_segment(job_id, 'job')}", "cancellation"
        )
        return JobStatus.from_wire(job_id, answer)

    def delete_model(self, model_id: str) -> dict[str, Any]:
        """Remove a model with its uploads, jobs, reports and artifacts; this cannot be undone.

        Returns:
            ``model_id`` and what was removed: ``jobs``, ``files``, ``bytes``.

        Raises:
            ConflictError: One of its jobs waits or runs.
        """
        return self._session.json("DELETE", f"/models/{path_segment(model_id)}", "deletion")

    def detail(self, job_id: str) -> dict[str, Any]:
        """Read how a job was started (attack type, model, queries, threshold)."""
        return self._session.json("GET", "/job_detail", "job detail", query={"job_id": job_id})

    def wait(
        self,
        job_id: str,
        progress: Callable[[JobStatus], None] | None = None,
        poll_seconds: float = 2.0,
        timeout: float | None = None,
    ) -> JobStatus:
        """Poll a job until it ends; a failed job is returned, not raised.

        Args:
            job_id: From ``analyse``.
            progress: Called with every status read; its exceptions end the wait.
            poll_seconds: Pause between two reads.
            timeout: Seconds after which ``JobTimeoutError`` is raised; None waits for ever.
        """
        start = time.monotonic()
        while True:
            status = self.status(job_id)
            if progress is not None:
                progress(status)
            if status.finished:
                return status
            if timeout is not None and time.monotonic() - start + poll_seconds > timeout:
                raise JobTimeoutError(
                    f"expected job {job_id} to end within {timeout:g} s; it still says "
                    f"{status.current!r}. It goes on running: call wait() again."
                )
            time.sleep(poll_seconds)

    def download(
        self,
        job_id: str,
        report_type: ReportType | str,
        report_format: ReportFormat | str = ReportFormat.ZIP,
        folder: Path | str = ".",
    ) -> Path:
        """Download a report or an artifact; the file appears only when it is complete.

        Args:
            job_id: From ``analyse``.
            report_type: Which report; artifacts come as ``ReportFormat.ZIP``.
            report_format: File format.
            folder: Created where it is missing.

        Returns:
            The file: ``<report_type>.<extension>`` in ``folder``, replaced if it was there.
        """
        kind, form = named(ReportType, report_type), named(ReportFormat, report_format)
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        partial = target / f".{kind.value}.{form.value}.part"
        call = self._session.call(
            "GET",
            "/get_report",
            f"download of {kind.value} ({form.value})",
            query={"job_id": job_id, "report_type": kind.value, "file_format": str(form.wire_id)},
        )
        try:
            head = b""
            with self._session.stream(call) as response, partial.open("wb") as file:
                for chunk in response.iter_bytes():
                    head = head or chunk[:8]
                    file.write(chunk)
            if not head:
                raise ServiceError(f"{call.what}: expected a file, got an empty answer")
            extension = form.value
            if form is ReportFormat.ZIP:
                extension = archive_extension(head)
            if not extension:
                raise ServiceError(f"{call.what}: expected an archive, got {head!r}...")
            return partial.replace(target / f"{kind.value}.{extension}")
        finally:
            partial.unlink(missing_ok=True)

    def collect(
        self,
        job: Job,
        output: Path | str,
        *,
        threshold: float = 0.0,
        progress: Callable[[Progress], None] | None = None,
    ) -> Assessment:
        """Download and unpack everything that a finished job made, and read its numbers.

        Args:
            job: From ``analyse``; it must have ended.
            output: Folder for the results; its folders of an earlier result are not overwritten.
            threshold: The ``vulnerability_threshold`` of the job, to tell whether a defence is due.
            progress: Called while downloading.

        Where a job failed while the defence was made, what it measured is collected all the same,
        and ``Assessment.problems`` says why the rest is missing.

        Raises:
            JobFailedError: The job failed before it had a score.
        """
        from modelward.client.collecting import collect

        return collect(self, job, Path(output), threshold=threshold, progress=progress)

    def assess(
        self,
        *,
        model: Path | str,
        data: Path | str,
        labels: Path | str,
        output: Path | str,
        task: TaskType | str = TaskType.IMAGE_CLASSIFICATION,
        analysis: AnalysisType | str = AnalysisType.EXTRACTION,
        progress: Callable[[Progress], None] | None = None,
        poll_seconds: float = 2.0,
        **parameters: Any,
    ) -> Assessment:
        """Assess a model from files to downloaded reports.

        Args:
            model: Model file (``.h5``, ``.keras``) or a zip that holds it.
            data: Folder or zip of images.
            labels: csv with the columns ``image,label``, or a zip that holds it.
            output: Folder for the results; it appears only when the assessment succeeded.
            task: Task of the model.
            analysis: Weakness to look for.
            progress: Called at every step; its exceptions end the assessment.
            poll_seconds: Pause between two status reads.
            **parameters: Analysis parameters by their wire name, or by the short names
                ``queries``, ``threshold``, ``classes``. ``input_dimensions`` and ``classes`` are
                read from images and labels when they are missing.

        Raises:
            ModelwardError: Input that is refused, a job that failed, a lost connection.
        """
        from modelward.client.assessing import assess

        files = {"model": Path(model), "data": Path(data), "label": Path(labels)}
        return assess(
            self,
            files,
            Path(output),
            pair=(str(task), str(analysis)),
            parameters=parameters,
            progress=progress,
            poll_seconds=poll_seconds,
        )
