"""From the request for an analysis to a job in the queue."""

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from modelward.domain import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    SandboxOptions,
    slots,
)
from modelward.jobs.gates import Gate, find_gate
from modelward.jobs.links import Links
from modelward.jobs.queue import QueueLimits, RequestKey
from modelward.jobs.registrations import Registration, Registrations, Upload
from modelward.jobs.store import JobStore
from modelward.storage import BlobStore

__all__ = ["Analyses", "AnalysisRequest"]

_API_VERSION = "1.5"


@dataclass(frozen=True)
class AnalysisRequest:
    """A request that was read; its files are still to be checked."""

    registration: Registration
    gate: Gate
    config: BaseModel
    payload: Mapping[str, Any]
    key: RequestKey | None
    uploads: Mapping[str, Upload]
    earlier: str | None
    """Id of the job that an earlier request with the same key made."""


class Analyses:
    """Takes requests in three steps, of which only the middle one needs the processor for long."""

    def __init__(
        self,
        registrations: Registrations,
        jobs: JobStore,
        blobs: BlobStore,
        links: Links,
        *,
        limits: QueueLimits,
        sandbox: SandboxOptions,
        wake: Callable[[], None],
    ) -> None:
        self._registrations = registrations
        self._jobs = jobs
        self._blobs = blobs
        self._links = links
        self._limits = limits
        self._sandbox = sandbox
        self._wake = wake

    def read(
        self,
        organisation: int,
        model_id: str,
        payload: Mapping[str, Any],
        key: str | None = None,
    ) -> AnalysisRequest:
        """Read a request and find what belongs to it.

        Args:
            organisation: Who asks.
            model_id: What to assess.
            payload: The request.
            key: Marks repetitions of one request (header ``Idempotency-Key``): they get the same
                job.

        Raises:
            NotFoundError: Unknown model.
            InvalidInputError: Missing files, malformed values.
            InvalidParameterError: Values that are not allowed, or a key that came with others.
            ConflictError: The model's files were removed.
        """
        registration = self._registrations.get(model_id, organisation)
        gate = find_gate(registration.task, registration.analysis)
        config = gate.parse(payload)
        repeats = RequestKey.of(key, payload)
        earlier = self._jobs.repeated(organisation, registration.id, repeats) if repeats else None
        uploads = {} if earlier else self._complete_uploads(registration)
        return AnalysisRequest(registration, gate, config, payload, repeats, uploads, earlier)

    def check(self, request: AnalysisRequest) -> None:
        """Look through the uploaded files; takes most of a second for very many images.

        Raises:
            InvalidInputError: Unfit files.
            InvalidParameterError: A model that cannot be run here.
            ConflictError: A file was replaced meanwhile.
        """
        with contextlib.ExitStack() as stack:
            try:
                archives = {
                    slot: stack.enter_context(self._blobs.local(upload.blob))
                    for slot, upload in request.uploads.items()
                }
                if archives:
                    request.gate.check(request.config, archives)
                    request.gate.check_model(request.config, archives, self._sandbox)
            except (NotFoundError, FileNotFoundError):
                raise ConflictError(
                    "analysis: a file was uploaded again while it was being checked; "
                    "send the analysis request once more"
                ) from None

    def queue(self, request: AnalysisRequest) -> dict[str, Any]:
        """Make the job; it is on the disk on return.

        Raises:
            ConflictError: A file was replaced since it was checked.
            TooManyRequestsError: Too many jobs wait.
            UnavailableError: Disk or database cannot be used; no job was made.
        """
        if request.earlier:
            return self._accepted(request, request.earlier)
        registration = request.registration
        job_id = self._jobs.add(
            job_id=f"job-{secrets.token_hex(16)}",
            organisation=registration.organisation,
            model_id=registration.id,
            pair=(registration.task.value, registration.analysis.value),
            payload=request.payload,
            config=request.config.model_dump(mode="json"),
            inputs={slot: upload.blob for slot, upload in request.uploads.items()},
            stages=request.gate.stages,
            limits=self._limits,
            key=request.key,
        )
        self._wake()
        return self._accepted(request, job_id)

    def _accepted(self, request: AnalysisRequest, job_id: str) -> dict[str, Any]:
        registration = request.registration
        link = self._links.monitor(job_id)
        return {
            **request.payload,
            "task_type": registration.task.value,
            "analysis_type": registration.analysis.value,
            "model_id": registration.id,
            "job_id": job_id,
            "dashboard_link": link,
            "monitor_link": link,
            "api_version": _API_VERSION,
            "parameters": self._jobs.get(job_id, registration.organisation).config,
        }

    def _complete_uploads(self, registration: Registration) -> dict[str, Upload]:
        found = self._registrations.uploads(registration.id, registration.organisation)
        wanted = slots(registration.task, registration.analysis)
        missing = [slot for slot in wanted if slot not in found]
        if missing and registration.locked:
            raise ConflictError(
                "uploads: the files of this model were removed because of their age; register it "
                "again, upload and analyse it"
            )
        if missing:
            raise InvalidInputError(
                f"uploads: expected {', '.join(wanted)}; missing: {', '.join(missing)}. "
                "Send each to its upload URL, then ask for the analysis again"
            )
        return {slot: found[slot] for slot in wanted}
