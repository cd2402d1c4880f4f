"""Ending jobs and removing models."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from modelward.api.docs import CANCEL, DELETE_MODEL
from modelward.api.errors import json_response
from modelward.api.requests import identify_for_job, respect_rate, service_of
from modelward.jobs import AssessmentService, Caller

__all__ = ["router"]

router = APIRouter()


async def _as_caller(
    request: Request, work: Callable[[AssessmentService, Caller], dict[str, Any]]
) -> Response:
    respect_rate(request)
    service = service_of(request)
    answer = await run_in_threadpool(lambda: work(service, identify_for_job(service, request)))
    return json_response(answer)


@router.delete("/jobs/{job_id}", openapi_extra=CANCEL, tags=["Jobs"])
async def cancel_job(request: Request) -> Response:
    """Cancel a job: at once where it waits, within seconds where it runs."""
    job_id = request.path_params["job_id"]
    return await _as_caller(
        request, lambda service, caller: service.cancel(caller.organisation, job_id)
    )


@router.delete("/models/{model_id}", openapi_extra=DELETE_MODEL, tags=["Models"])
async def delete_model(request: Request) -> Response:
    """Remove a model with its uploads, its jobs, their reports and artifacts."""
    model_id = request.path_params["model_id"]

    def work(service: AssessmentService, caller: Caller) -> dict[str, Any]:
        removed = service.delete(caller.organisation, model_id)
        return {
            "model_id": model_id,
            "jobs": removed.jobs,
            "files": removed.files,
            "bytes": removed.bytes,
        }

    return await _as_caller(request, work)
