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
    "ANALYSE",
    "CANCEL",
    "DELETE_MODEL",
    "JOB",
    "KEYS",
    "KEY_CREATE",
    "KEY_LIST",
    "KEY_REVOKE",
    "KEY_ROTATE",
    "REGISTER",
    "REPORT",
    "UPLOAD",
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


def _responses(success: str, *codes: int) -> dict[str, Any]:
    error = {"description": "Error", "content": {"application/json": {"schema": _ERROR}}}
    return {"200": {"description": success}, **{str(code): error for code in codes}}


def _json_body(example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"required": True, "content": content}


_FIRST = sorted(SUPPORTED)[0]

KEYS: dict[str, Any] = {
    "parameters": [{**_ORGANISATION, "required": True}],
    "responses": _responses('`{"x_api_key": "..."}`', 401, 403, 429),
}
REGISTER: dict[str, Any] = {
    "parameters": [{**_ORGANISATION, "required": True}, _KEY],
    "requestBody": _json_body({"task_type": _FIRST[0].value, "analysis_type": _FIRST[1].value}),
    "responses": _responses("Model id, upload URLs, sample request", 400, 401, 412, 413, 429),
}
UPLOAD: dict[str, Any] = {
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
    "responses": {
        **_responses("Received (PUT)", 400, 403, 404, 409, 413),
        "204": {"description": "Received (POST)"},
    },
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
        *(400, 403, 404, 409, 412, 413, 429, 503, 507),
    ),
}
CANCEL: dict[str, Any] = {
    "parameters": [{**_JOB_ID, "in": "path"}, _ORGANISATION, _KEY],
    "responses": _responses("State of the job, which is cancelled", 403, 404, 409, 429, 503, 507),
}
DELETE_MODEL: dict[str, Any] = {
    "parameters": [_MODEL_ID, _ORGANISATION, _KEY],
    "responses": _responses(
        "What was removed: model id, number of jobs, files and bytes", 403, 404, 409, 429, 503, 507
    ),
}
JOB: dict[str, Any] = {
    "parameters": [_ORGANISATION, _KEY, _JOB_ID],
    "responses": _responses("State of the job", 400, 403, 404),
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
            "schema": {"type": "string", "enum": [kind.value for kind in ReportType]},
        },
        {
            "name": "file_format",
            "in": "query",
            "description": ", ".join(f"{kind.wire_id} {kind.value}" for kind in ReportFormat),
            "schema": {"type": "integer", "default": 0, "minimum": 0, "maximum": 4},
        },
    ],
    "responses": _responses("The file", 400, 403, 404, 409, 412, 429),
}
KEY_LIST: dict[str, Any] = {
    "parameters": [_ORGANISATION, _KEY],
    "responses": _responses("The keys without their secrets", 403, 429),
}
KEY_CREATE: dict[str, Any] = {
    "parameters": [_ORGANISATION, _KEY],
    "requestBody": _json_body(
        {"label": "build server", "role": "submitter", "expires_in_seconds": 7_776_000}
    ),
    "responses": _responses("The key with its secret", 400, 403, 409, 412, 413, 429),
}
KEY_REVOKE: dict[str, Any] = {
    "parameters": [_KEY_ID, _ORGANISATION, _KEY],
    "responses": _responses("The key", 403, 404, 409, 429),
}
KEY_ROTATE: dict[str, Any] = {
    "parameters": [_KEY_ID, _ORGANISATION, _KEY],
    "requestBody": {**_json_body({"grace_seconds": 3600}), "required": False},
    "responses": _responses("The new key with its secret", 400, 403, 404, 409, 412, 413, 429),
}
