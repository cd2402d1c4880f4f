"""Reading addresses, ids and answers of the wire."""

from typing import Any, TypeVar

import httpx

from modelward.client.errors import ServiceError
from modelward.client.results import UploadTarget
from modelward.client.transport import Call
from modelward.domain import (
    InvalidInputError,
    InvalidParameterError,
    ReportFormat,
    ReportType,
    UploadDialect,
)

__all__ = [
    "BASE_PATH",
    "archive_extension",
    "base_url",
    "json_object",
    "named",
    "path_segment",
    "upload_target",
]

BASE_PATH = "/api/ais/v1.5"
_SUFFIX = "_upload_url"
_MAGIC = ((b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), (b"\x89HDF", "h5"))
_Kind = TypeVar("_Kind", ReportType, ReportFormat)


def archive_extension(head: bytes) -> str:
    """Tell the extension of an archive or a bare model from its first bytes; "" for others."""
    return next((extension for magic, extension in _MAGIC if head.startswith(magic)), "")


def json_object(call: Call, response: httpx.Response) -> dict[str, Any]:
    """Read an answer that must be a JSON object.

    Raises:
        ServiceError: It is something else.
    """
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ServiceError(
            f"{call.what}: expected a JSON object, got "
            f"{response.headers.get('content-type', 'no content type')}. "
            "Check that the address is that of the service."
        )
    return answer


def base_url(url: str) -> str:
    """Check an address and append the base path where it is missing.

    Raises:
        InvalidInputError: It is no http or https address.
    """
    parsed = httpx.URL(url.strip())
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidInputError(
            "expected the service's address such as http://127.0.0.1:8000, "
            f"got {url.strip()!r}; pass url= or set MODELWARD_URL"
        )
    base = str(parsed.copy_with(query=None, fragment=None)).rstrip("/")
    return base if base.endswith(BASE_PATH) else base + BASE_PATH


def named(kinds: type[_Kind], name: str) -> _Kind:
    """Find a member by its value in any case."""
    for kind in kinds:
        if kind.value.lower() == name.strip().lower():
            return kind
    known = ", ".join(kinds)
    raise InvalidParameterError(f"{kinds.__name__}: expected one of {known}; got {name!r}")


def path_segment(value: str, what: str = "model") -> str:
    """Check that an id stays one segment of a path.

    Raises:
        InvalidInputError: It would not.
    """
    if not value or any(c in value for c in "/?#%\\") or value in {".", ".."}:
        raise InvalidInputError(f"expected a {what} id, got {value!r}")
    return value


def upload_target(key: str, value: object) -> UploadTarget:
    """Read one entry of ``urls``; its form tells the dialect.

    Raises:
        ServiceError: It has neither form.
    """
    slot = key.removesuffix(_SUFFIX)
    if isinstance(value, str):
        return UploadTarget(slot, UploadDialect.PUT, value)
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        fields = {str(k): str(v) for k, v in (value.get("fields") or {}).items()}
        return UploadTarget(slot, UploadDialect.POST, value["url"], fields)
    raise ServiceError(f"registration: expected a URL for slot {slot}, got {type(value).__name__}")
