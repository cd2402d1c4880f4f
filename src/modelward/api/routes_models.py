"""Keys, registration, uploads and the start of an analysis."""

from typing import NoReturn

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from modelward.api.body import drain, receive_upload
from modelward.api.docs import ANALYSE, KEYS, NOT_YET, REGISTER, UPLOAD_POST, UPLOAD_PUT
from modelward.api.errors import json_response, whole_seconds
from modelward.api.guard import organisation_of, remember_link
from modelward.api.metrics import Metrics
from modelward.api.requests import caller_of, read_json, service_of
from modelward.api.turns import Turns
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
    metrics: Metrics = request.app.state.metrics
    if not service.settings.key_exchange:
        metrics.exchanges_refused.labels(reason="switched_off").inc()
        await run_in_threadpool(
            service.audit.refusal,
            "key.exchange_refused",
            organisation=organisation_of(request),
            reason="key_exchange: switched off",
        )
        raise AccessDeniedError(
            "key_exchange: this service does not hand out keys for an organisation id "
            "(it was started with --no-key-exchange); send the key from `modelward org create`"
        )
    number = organisation_of(request)
    wait = request.app.state.limits.exchanges.take(str(number))
    if wait:
        metrics.exchanges_refused.labels(reason="rate").inc()
        metrics.rate_limited.labels(limit="exchange", action="refused").inc()
        raise TooManyRequestsError(
            f"rate: expected at most {service.settings.key_exchange_per_second:g} new keys per "
            f"second of one organisation; try again in {whole_seconds(wait)} s",
            retry_after=wait,
        )
    minted = await run_in_threadpool(service.tenants.exchange, number)
    request.app.state.limits.known.add(minted)
    return json_response({"x_api_key": minted})


@router.post("/model_registration/upload", openapi_extra=REGISTER, tags=["Models"])
async def register_model(request: Request) -> Response:
    """Register a model for one analysis: its id, where to upload, and a sample request."""
    body = await read_json(request)
    organisation = caller_of(request).organisation
    made = await run_in_threadpool(service_of(request).register, organisation, body)
    urls = made["urls"].values()
    remember_link(request, *(url if isinstance(url, str) else url["url"] for url in urls))
    return json_response({"data": made})


@router.put(
    "/upload/{model_id}/{slot}",
    openapi_extra=UPLOAD_PUT,
    response_class=Response,
    tags=["Models"],
)
async def put_upload(request: Request) -> Response:
    """Take the archive of one slot as the raw body; answers 200."""
    return await _upload(request)


@router.post(
    "/upload/{model_id}/{slot}",
    openapi_extra=UPLOAD_POST,
    response_class=Response,
    status_code=204,
    tags=["Models"],
)
async def post_upload(request: Request) -> Response:
    """Take the archive of one slot as the part `file` of a form; answers 204."""
    return await _upload(request)


async def _upload(request: Request) -> Response:
    model_id, slot = request.path_params["model_id"], request.path_params["slot"]
    metrics: Metrics = request.app.state.metrics
    service = service_of(request)
    turns: Turns = request.app.state.limits.turns
    try:
        # before any of the body is read
        ticket = await run_in_threadpool(
            service.visits.admit, model_id, slot, request.query_params.get("token")
        )
    except ModelwardError:
        await drain(request)
        raise
    try:
        with disk_errors():
            await receive_upload(
                request,
                ticket.path,
                limit=service.settings.upload_max_bytes,
                key=ticket.key,
                room=service.uploads.require_room,
            )
        await turns.run(ticket.organisation, service.uploads.check, ticket)
        size = await run_in_threadpool(service.uploads.accept, ticket)
    except ModelwardError as error:
        metrics.uploads.labels(result="rejected").inc()
        await run_in_threadpool(service.visits.reject, ticket, error)
        await drain(request)
        raise
    else:
        metrics.uploads.labels(result="accepted").inc()
        metrics.upload_bytes.inc(size)
    finally:
        ticket.path.unlink(missing_ok=True)
    return Response(status_code=200 if request.method == "PUT" else 204)


@router.post("/model_analyse/{model_id}", openapi_extra=ANALYSE, tags=["Jobs"])
async def analyse(request: Request) -> Response:
    """Start the analysis of a registered model whose files are uploaded."""
    service, organisation = service_of(request), caller_of(request).organisation
    payload = await read_json(request)
    model_id = request.path_params["model_id"]
    key = request.headers.get("idempotency-key")
    turns: Turns = request.app.state.limits.turns
    found = await run_in_threadpool(service.analyses.read, organisation, model_id, payload, key)
    await turns.run(organisation, service.analyses.check, found)
    answer = await run_in_threadpool(service.analyses.queue, found)
    remember_link(request, answer["monitor_link"])
    return json_response(answer)


async def _not_yet(request: Request) -> NoReturn:
    raise InvalidParameterError(
        f"{request.url.path.rsplit('/', 1)[-1]}: supply-chain analysis is not supported yet; "
        "image_classification + extraction is"
    )


@router.post("/supplychain", openapi_extra=NOT_YET, status_code=412, tags=["Not supported yet"])
async def supply_chain(request: Request) -> Response:
    """Not supported yet."""
    await _not_yet(request)


@router.post(
    "/generate_model_id", openapi_extra=NOT_YET, status_code=412, tags=["Not supported yet"]
)
async def generate_model_id(request: Request) -> Response:
    """Not supported yet."""
    await _not_yet(request)
