"""Which refused calls the SIEM hears of."""

import re
import uuid

from fastapi import Request

from modelward.domain import ModelwardError
from modelward.jobs import (
    BASE_PATH,
    KEY_REFUSED,
    UPLOAD_REJECTED,
    AssessmentService,
    current,
)

__all__ = ["report_refusal"]

_KEYS = f"{BASE_PATH}/get_aws_api_key"
_UPLOAD = re.compile(re.escape(BASE_PATH) + r"/upload/(?P<model>[^/]+)/[^/]+")
# Fixed words: callers choose paths and names, and must not choose how many events there are.
_KEY_DETAILS = {
    401: "missing or unknown organisation id",
    403: "the exchange is switched off",
    429: "more often than allowed",
}
_UPLOAD_DETAILS = {
    400: "not an acceptable archive",
    403: "a link that does not open this",
    404: "an unknown model",
    409: "the analysis has started",
    413: "larger than allowed",
}
_OTHER = "another reason"


def report_refusal(request: Request, error: ModelwardError) -> None:
    """Tell the SIEM about a refused key exchange or upload; other errors are none of its business.

    Args:
        request: The call, with the path below any prefix.
        error: Why it was refused; the service's own trouble (5xx) is no refusal.
    """
    if error.status >= 500:
        return
    service: AssessmentService = request.app.state.service
    # Behind a trusted proxy the peer is the proxy; the context holds the client.
    source = current().address or None
    path = request.scope["path"]
    if path == _KEYS:
        detail = _KEY_DETAILS.get(error.status, _OTHER)
        service.alerts.refused(KEY_REFUSED, source=source, detail=detail)
    elif found := _UPLOAD.fullmatch(path):
        service.alerts.refused(
            UPLOAD_REJECTED,
            source=source,
            detail=_UPLOAD_DETAILS.get(error.status, _OTHER),
            reason=error.message,
            model_id=_uuid(found["model"]),
        )


def _uuid(text: str) -> str:
    """The text where it has the form of a model id, else nothing."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""
