"""What the OpenAPI page says about requests; they are parsed by hand, so it is written by hand."""

from typing import Any

from modelward.domain import (
    SUPPORTED,
    ReportFormat,
    ReportType,
    UploadDialect,
    sample_payload,
)

__all__ = [
    "ALIVE",
    "ANALYSE",
    "CANCEL",
    "DELETE_MODEL",
    "JOB",
    "KEYS",
    "KEY_CREATE",
    "KEY_LIST",
    "KEY_REVOKE",
    "KEY_ROTATE",
    "METRICS",
    "NOT_YET",
    "READY",
    "REGISTER",
    "REPORT",
    "STATUS",
    "UPLOAD_POST",
    "UPLOAD_PUT",
]

_ERROR = {
    "type": "object",
    "required": ["message", "detail", "request_id"],
    "properties": {
        "message": {"type": "string", "description": "What was expected, what came, what to do"},
        "detail": {"type": "string"},
        "error": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
_ORGANISATION = {
    "name": "Org-Id",
    "in": "header",
    "description": "Organisation id; the spellings org-id and org_id are read too",
    "schema": {"type": "string"},
}
_KEY = {"name": "x-api-key", "in": "header", "required": True, "schema": {"type": "string"}}
_MODEL_ID = {"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}
_SLOT = {"name": "slot", "in": "path", "required": True, "schema": {"type": "string"}}
_KEY_ID = {"name": "key_id", "in": "path", "required": True, "schema": {"type": "string"}}
_JOB_ID = {"name": "job_id", "in": "query", "required": True, "schema": {"type": "string"}}


_ANY = (400, 431, 503)
"""Any call: no HTTP; too large a header; too many connections, or a database that is not there."""
_BODY = (408, 413)
"""Any call with a body: too slow, too large."""
_JSON = {"application/json": {"schema": {"type": "object"}}}
_FILES = _JSON | {
    kind: {"schema": {"type": "string", "format": "binary"}}
    for kind in ("application/pdf", "application/xml", "application/zip", "text/plain")
}
_REPORT_TYPES = {"type": "string", "enum": [kind.value for kind in ReportType]}


def _errors(*codes: int) -> dict[str, Any]:
    """What the document says about status codes whose body is the error object."""
    error = {"description": "Error", "content": {"application/json": {"schema": _ERROR}}}
    return {str(code): error for code in sorted({*_ANY, *codes})}


def _responses(success: str, *codes: int, content: dict[str, Any] | None = None) -> dict[str, Any]:
    found = {"description": success, "content": _JSON if content is None else content}
    return {"200": found, **_errors(429, *codes)}


def _json_body(example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"required": True, "content": content}


_FIRST = sorted(SUPPORTED)[0]

KEYS: dict[str, Any] = {
    "parameters": [{**_ORGANISATION, "required": True}],
    "responses": _responses('`{"x_api_key": "..."}`', 401, 403, 507),
}
REGISTER: dict[str, Any] = {
    "parameters": [{**_ORGANISATION, "required": True}, _KEY],
    "requestBody": _json_body({"task_type": _FIRST[0].value, "analysis_type": _FIRST[1].value}),
    "responses": _responses("Model id, upload URLs, sample request", *_BODY, 401, 403, 412, 507),
}
_UPLOAD: dict[str, Any] = {
    "parameters": [
        _MODEL_ID,
        _SLOT,
        {
            "name": "token",
            "in": "query",
            "required": True,
            "description": "Part of the URL that the registration hands out",
            "schema": {"type": "string"},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "key": {"type": "string"},
                        "file": {"type": "string", "format": "binary"},
                    },
                }
            },
        },
    },
}
_UPLOAD_ERRORS = _errors(*_BODY, 403, 404, 409, 429, 507)
UPLOAD_PUT: dict[str, Any] = {
    **_UPLOAD,
    "responses": {"200": {"description": "Received"}, **_UPLOAD_ERRORS},
}
UPLOAD_POST: dict[str, Any] = {
    **_UPLOAD,
    "responses": {"204": {"description": "Received"}, **_UPLOAD_ERRORS},
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": (
        "Repetitions of one request with the same key get the same job; kept for 24 hours and as "
        "long as the job is open"
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
ANALYSE: dict[str, Any] = {
    "parameters": [_MODEL_ID, _ORGANISATION, _KEY, _IDEMPOTENCY],
    "requestBody": _json_body(sample_payload(*_FIRST, UploadDialect.POST)),
    "responses": _responses(
        "Job id, monitor link, echo of the parameters; the job is on the disk",
        *(*_BODY, 403, 404, 409, 412, 507),
    ),
}
CANCEL: dict[str, Any] = {
    "parameters": [{**_JOB_ID, "in": "path"}, _ORGANISATION, _KEY],
    "responses": _responses("State of the job, which is cancelled", 403, 404, 409, 507),
}
DELETE_MODEL: dict[str, Any] = {
    "parameters": [_MODEL_ID, _ORGANISATION, _KEY],
    "responses": _responses(
        "What was removed: model id, number of jobs, files and bytes", 403, 404, 409, 507
    ),
}
JOB: dict[str, Any] = {
    "parameters": [_ORGANISATION, _KEY, _JOB_ID],
    "responses": _responses("State of the job", 400, 403, 404),
}
STATUS: dict[str, Any] = {
    "parameters": [_ORGANISATION, _KEY, _JOB_ID],
    # Too frequent calls are delayed, so there is no 429.
    "responses": {
        "200": {"description": "State of every stage", "content": _JSON},
        **_errors(400, 403, 404),
    },
}
REPORT: dict[str, Any] = {
    "parameters": [
        _ORGANISATION,
        _KEY,
        _JOB_ID,
        {
            "name": "report_type",
            "in": "query",
            "required": True,
            "description": "In any case",
            "schema": _REPORT_TYPES,
        },
        {
            "name": "file_format",
            "in": "query",
            "description": ", ".join(f"{kind.wire_id} {kind.value}" for kind in ReportFormat),
            "schema": {"type": "integer", "default": 0, "minimum": 0, "maximum": 4},
        },
    ],
    "responses": _responses("The file", 400, 403, 404, 409, 412, content=_FILES),
}
NOT_YET: dict[str, Any] = {
    "parameters": [_ORGANISATION, _KEY],
    "responses": _errors(403, 412, 429),
}
ALIVE: dict[str, Any] = {
    "responses": {"200": {"description": "It answers", "content": _JSON}, **_errors()}
}
READY: dict[str, Any] = {
    "responses": {
        "200": {"description": "Ready", "content": _JSON},
        **_errors(),
        "503": {"description": "Not ready; the checks say why", "content": _JSON},
    }
}
METRICS: dict[str, Any] = {
    "responses": _responses(
        "Prometheus' text format", 403, content={"text/plain": {"schema": {"type": "string"}}}
    )
}
KEY_LIST: dict[str, Any] = {
    "parameters": [_ORGANISATION, _KEY],
    "responses": _responses("The keys without their secrets", 403),
}
KEY_CREATE: dict[str, Any] = {
    "parameters": [_ORGANISATION, _KEY],
    "requestBody": _json_body(
        {"label": "build server", "role": "submitter", "expires_in_seconds": 7_776_000}
    ),
    "responses": _responses("The key with its secret", *_BODY, 403, 409, 412, 507),
}
KEY_REVOKE: dict[str, Any] = {
    "parameters": [_KEY_ID, _ORGANISATION, _KEY],
    "responses": _responses("The key", 403, 404, 409, 507),
}
KEY_ROTATE: dict[str, Any] = {
    "parameters": [_KEY_ID, _ORGANISATION, _KEY],
    "requestBody": {**_json_body({"grace_seconds": 3600}), "required": False},
    "responses": _responses("The new key with its secret", *_BODY, 403, 404, 409, 412, 507),
}
