"""Status, detail and downloads of a job."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from modelward.api.docs import JOB, REPORT, STATUS
from modelward.api.errors import json_response
from modelward.api.limits import Limits, Readers
from modelward.api.requests import caller_of, required_query, service_of
from modelward.web import file_response

__all__ = ["router"]

router = APIRouter(tags=["Jobs"])


def readers_of(request: Request) -> Readers:
    """The threads for calls that only read."""
    limits: Limits = request.app.state.limits
    return limits.readers


@router.get("/job_status_detailed", openapi_extra=STATUS)
async def status(request: Request) -> Response:
    """State of every stage, current status, score; too frequent calls are delayed, not refused."""
    work, organisation = service_of(request).status, caller_of(request).organisation
    return json_response(
        await readers_of(request).run(work, organisation, required_query(request, "job_id"))
    )


@router.get("/job_detail", openapi_extra=JOB)
async def detail(request: Request) -> Response:
    """The parameters of a job."""
    work, organisation = service_of(request).detail, caller_of(request).organisation
    return json_response(
        await readers_of(request).run(work, organisation, required_query(request, "job_id"))
    )


@router.get("/get_report", openapi_extra=REPORT, response_class=Response)
async def report(request: Request) -> Response:
    """A report in one format, all formats in a zip, or an artifact."""
    download = await run_in_threadpool(
        service_of(request).download,
        caller_of(request).organisation,
        required_query(request, "job_id"),
        request.query_params.get("report_type"),
        request.query_params.get("file_format"),
    )
    return await file_response(download, service_of(request).blobs)
