"""Exceptions that every room raises and the edges (HTTP, CLI) translate."""

__all__ = [
    "AccessDeniedError",
    "AssessmentError",
    "ConflictError",
    "InvalidInputError",
    "InvalidParameterError",
    "ModelwardError",
    "NotFoundError",
    "PayloadTooLargeError",
    "QueryBudgetExceededError",
    "RequestTimeoutError",
    "StorageFullError",
    "TooManyRequestsError",
    "UnauthenticatedError",
    "UnavailableError",
]


class ModelwardError(Exception):
    """Base of all errors with a message meant for the user.

    The message names what was expected, what came and what to do next. ``status`` is the HTTP
    status that the API answers with where the error reaches it.
    """

    status = 500
    request_id: str | None = None
    """Set by the SDK where the service named the request that failed."""

    @property
    def message(self) -> str:
        """The text for the user."""
        return str(self)


class InvalidInputError(ModelwardError):
    """Malformed request, archive or file (HTTP 400)."""

    status = 400


class UnauthenticatedError(ModelwardError):
    """Missing, unknown or expired key or organisation (HTTP 401)."""

    status = 401


class AccessDeniedError(ModelwardError):
    """Key or token that does not open this resource (HTTP 403)."""

    status = 403


class NotFoundError(ModelwardError):
    """Unknown id, or an id of another organisation (HTTP 404)."""

    status = 404


class RequestTimeoutError(ModelwardError):
    """The request arrived too slowly to be waited for (HTTP 408)."""

    status = 408


class ConflictError(ModelwardError):
    """The resource is in a state that does not allow the call (HTTP 409)."""

    status = 409


class InvalidParameterError(ModelwardError):
    """A parameter value that is not allowed (HTTP 412)."""

    status = 412


class PayloadTooLargeError(ModelwardError):
    """Body or archive above a limit (HTTP 413)."""

    status = 413


class TooManyRequestsError(ModelwardError):
    """Rate limit reached (HTTP 429)."""

    status = 429

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(ModelwardError):
    """The database or the files cannot be used at the moment (HTTP 503).

    Args:
        message: Text for the user.
        retry_after: Seconds after which another try makes sense; None where somebody has to act
            first.
    """

    status = 503

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageFullError(UnavailableError):
    """There is no space left for the service's data (HTTP 507)."""

    status = 507


class AssessmentError(ModelwardError):
    """A stage of a job cannot go on; the job ends ``failed`` with this message."""


class QueryBudgetExceededError(AssessmentError):
    """An attack asked for more queries than its budget holds."""
