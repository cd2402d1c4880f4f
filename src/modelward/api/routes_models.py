"""Keys, registration, uploads and the start of an analysis."""

from typing import Any, NoReturn

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from modelward.api.body import drain, receive_upload
from modelward.api.docs import ANALYSE, KEYS, REGISTER, UPLOAD
from modelward.api.errors import json_response
from modelward.api.requests import (
    identify_for_job,
    identify_for_registration,
    organisation_id,
    read_json,
    respect_rate,
    service_of,
)
from modelward.domain import (
    AccessDeniedError,
    InvalidParameterError,
    ModelwardError,
    TooManyRequestsError,
)
from modelward.storage import disk_errors

__all__ = ["router"]

router = APIRouter()


@router.get("/get_aws_api_key", openapi_extra=KEYS, tags=["Keys"])
async def get_api_key(request: Request) -> Response:
    """Fetch a key for an organisation; a new one each time, good for 7 days after its last use."""
    service = service_of(request)
    if not service.settings.key_exchange:
        raise AccessDeniedError(
            "key_exchange: this service does not hand out keys for an organisation id "
            "(it was started with --no-key-exchange); send the key from `modelward org create`"
        )
    public = organisation_id(request)
    number = await run_in_threadpool(service.tenants.organisation, public)
    wait = request.app.state.key_limiter.take(str(number))
    if wait:
        raise TooManyRequestsError(
            f"rate: expected at most {service.settings.key_exchange_per_second:g} new keys per "
            f"second of one organisation; try again in {wait:.1f} s",
            retry_after=wait,
        )
    return json_response({"x_api_key": await run_in_threadpool(service.tenants.exchange, number)})


@router.post("/model_registration/upload", openapi_extra=REGISTER, tags=["Models"])
async def register_model(request: Request) -> Response:
    """Register a model for one analysis: its id, where to upload, and a sample request."""
    respect_rate(request)
    body = await read_json(request)
    service = service_of(request)

    def work() -> dict[str, Any]:
        caller = identify_for_registration(service, request)
        return service.register(caller.organisation, body)

    return json_response({"data": await run_in_threadpool(work)})


@router.put("/upload/{model_id}/{slot}", openapi_extra=UPLOAD, tags=["Models"])
async def put_upload(request: Request) -> Response:
    """Take the archive of one slot as the raw body; answers 200."""
    return await _upload(request)


@router.post("/upload/{model_id}/{slot}", openapi_extra=UPLOAD, tags=["Models"])
async def post_upload(request: Request) -> Response:
    """Take the archive of one slot as the part `file` of a form; answers 204."""
    return await _upload(request)


async def _upload(request: Request) -> Response:
    model_id, slot = request.path_params["model_id"], request.path_params["slot"]
    service = service_of(request)
    try:
        # before any of the body is read
        ticket = await run_in_threadpool(
            service.uploads.admit, model_id, slot, request.query_params.get("token")
        )
    except ModelwardError:
        await drain(request)
        raise
    try:
        with disk_errors():
            await receive_upload(
                request, ticket.path, limit=service.settings.upload_max_bytes, key=ticket.key
            )
        await run_in_threadpool(service.uploads.accept, ticket)
    except ModelwardError:
        await drain(request)
        raise
    finally:
        ticket.path.unlink(missing_ok=True)
    return Response(status_code=200 if request.method == "PUT" else 204)


@router.post("/model_analyse/{model_id}", openapi_extra=ANALYSE, tags=["Jobs"])
async def analyse(request: Request) -> Response:
    """Start the analysis of a registered model whose files are uploaded."""
    respect_rate(request)
    service = service_of(request)
    caller = await run_in_threadpool(identify_for_job, service, request)
    payload = await read_json(request)
    model_id = request.path_params["model_id"]
    key = request.headers.get("idempotency-key")
    answer = await run_in_threadpool(service.analyse, caller.organisation, model_id, payload, key)
    return json_response(answer)


async def _not_yet(request: Request) -> NoReturn:
    respect_rate(request)
    service = service_of(request)
    await run_in_threadpool(identify_for_job, service, request)
    raise InvalidParameterError(
        f"{request.url.path.rsplit('/', 1)[-1]}: supply-chain analysis is not supported yet; "
        "image_classification + extraction is"
    )


@router.post("/supplychain", tags=["Not supported yet"])
async def supply_chain(request: Request) -> Response:
    """Not supported yet."""
    await _not_yet(request)


@router.post("/generate_model_id", tags=["Not supported yet"])
async def generate_model_id(request: Request) -> Response:
    """Not supported yet."""
    await _not_yet(request)
