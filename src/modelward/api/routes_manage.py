"""Ending jobs and removing models."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from modelward.api.docs import CANCEL, DELETE_MODEL
from modelward.api.errors import json_response
from modelward.api.requests import caller_of, service_of

__all__ = ["router"]

router = APIRouter()


@router.delete("/jobs/{job_id}", openapi_extra=CANCEL, tags=["Jobs"])
async def cancel_job(request: Request) -> Response:
    """Cancel a job: at once where it waits, within seconds where it runs."""
    work, organisation = service_of(request).cancel, caller_of(request).organisation
    return json_response(await run_in_threadpool(work, organisation, request.path_params["job_id"]))


@router.delete("/models/{model_id}", openapi_extra=DELETE_MODEL, tags=["Models"])
async def delete_model(request: Request) -> Response:
    """Remove a model with its uploads, its jobs, their reports and artifacts."""
    work, organisation = service_of(request).delete, caller_of(request).organisation
    model_id = request.path_params["model_id"]
    removed = await run_in_threadpool(work, organisation, model_id)
    return json_response(
        {
            "model_id": model_id,
            "jobs": removed.jobs,
            "files": removed.files,
            "bytes": removed.bytes,
        }
    )
