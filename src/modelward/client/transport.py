"""HTTP with retries, error mapping and silence about secrets."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from modelward.client.errors import ServiceError, ServiceUnreachableError
from modelward.domain import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    InvalidParameterError,
    ModelwardError,
    NotFoundError,
    PayloadTooLargeError,
    RequestTimeoutError,
    TooManyRequestsError,
    UnauthenticatedError,
)

__all__ = ["Call", "RetryPolicy", "Transport", "error_from"]

_log = logging.getLogger("modelward.client")
_BY_STATUS: dict[int, type[ModelwardError]] = {
    error.status: error
    for error in (
        InvalidInputError,
        UnauthenticatedError,
        AccessDeniedError,
        NotFoundError,
        RequestTimeoutError,
        ConflictError,
        InvalidParameterError,
        PayloadTooLargeError,
    )
}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_MESSAGE_KEYS = ("message", "detail", "error", "error_message", "errors")
# httpx logs every URL it calls, and ours carry upload tokens. The flag silences httpx for our own
# calls only; other users of httpx in the same process keep their log.
_ours: ContextVar[bool] = ContextVar("modelward_client_call", default=False)


class _HideOurCalls(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _ours.get()


_hide = _HideOurCalls()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is repeated."""

    attempts: int = 5
    """Tries in all, at least 1."""
    first_wait: float = 0.5
    """Seconds before the second try; doubled for each further one."""
    longest_wait: float = 10.0
    """Upper limit of one wait in seconds, also for what ``Retry-After`` asks."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the client means it."""

    method: str
    url: str = field(repr=False)
    what: str
    """Words for messages and logs; the URL itself may hold a token."""
    idempotent: bool
    """Whether a repetition does no harm. Other calls are repeated only where the service cannot
    have acted on them: no connection, or refused with 429."""
    options: Callable[[], dict[str, Any]] = dict
    """Arguments for httpx, made afresh for every try (an open file can be read only once)."""


class Transport:
    """Sends calls; turns failures into domain exceptions."""

    def __init__(
        self,
        url: str,
        timeout: float,
        retries: RetryPolicy,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self._retries = retries
        # Uploads of gigabytes and the checks behind them take longer than a status call.
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout, read=max(timeout, 120.0), write=max(timeout, 120.0)),
            transport=transport,
            follow_redirects=False,
            # A proxy that the environment names cannot reach a service on this machine.
            trust_env=httpx.URL(url).host not in _LOOPBACK,
        )
        logging.getLogger("httpx").addFilter(_hide)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, call: Call) -> httpx.Response:
        """Send a call and read its answer.

        Raises:
            ModelwardError: The service refused or failed, or could not be reached.
        """
        with self.stream(call) as response:
            response.read()
        return response

    @contextmanager
    def stream(self, call: Call) -> Iterator[httpx.Response]:
        """Send a call; the body of the answer is still to be read.

        Raises:
            ModelwardError: The service refused or failed, or could not be reached.
        """
        token = _ours.set(True)
        try:
            response = self._repeat(call)
            try:
                yield response
            except httpx.HTTPError as error:
                raise _unreachable(call, error) from error
            finally:
                response.close()
        finally:
            _ours.reset(token)

    def _repeat(self, call: Call) -> httpx.Response:
        wait = self._retries.first_wait
        for attempt in range(1, self._retries.attempts + 1):
            last = attempt == self._retries.attempts
            pause = min(wait, self._retries.longest_wait)
            try:
                response = self._once(call)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                if last:
                    raise _unreachable(call, error) from error
            except httpx.HTTPError as error:
                if last or not call.idempotent:
                    raise _unreachable(call, error) from error
            else:
                if response.is_success:
                    return response
                failure = error_from(call, response)
                if last or not _worth_repeating(call, response.status_code):
                    raise failure
                if isinstance(failure, TooManyRequestsError):
                    pause = min(failure.retry_after, self._retries.longest_wait)
            _log.info("%s: try %d failed, next in %.1f s", call.what, attempt, pause)
            self._retries.sleep(pause)
            wait *= 2
        raise ServiceError(f"{call.what}: no try was allowed; expected attempts >= 1")

    def _once(self, call: Call) -> httpx.Response:
        request = self._http.build_request(call.method, call.url, **call.options())
        return self._http.send(request, stream=True)


def _worth_repeating(call: Call, status: int) -> bool:
    return status == 429 or ((status >= 500 or status == 408) and call.idempotent)


def _unreachable(call: Call, error: httpx.HTTPError) -> ServiceUnreachableError:
    host = httpx.URL(call.url).copy_with(path="/", query=None, fragment=None, userinfo=b"")
    reason = str(error) or type(error).__name__
    return ServiceUnreachableError(
        f"{call.what}: expected an answer from {host}, got: {reason}. "
        "Check that the service runs and that the address is right."
    )


def error_from(call: Call, response: httpx.Response) -> ModelwardError:
    """Turn an answer that is no success into the exception that stands for its status.

    The message is the service's own with status and request id; it never holds the URL.
    """
    try:
        response.read()
    except httpx.HTTPError as error:
        return _unreachable(call, error)
    status = response.status_code
    text, request_id = _read_error(response)
    where = f"HTTP {status}" + (f", request {request_id}" if request_id else "")
    message = f"{call.what}: {text} ({where})"
    result: ModelwardError
    if status == 429:
        result = TooManyRequestsError(message, _retry_after(response))
    elif status in _BY_STATUS:
        result = _BY_STATUS[status](message)
    else:
        result = ServiceError(message)
    result.request_id = request_id
    return result


def _read_error(response: httpx.Response) -> tuple[str, str | None]:
    request_id = response.headers.get("x-request-id")
    try:
        body = response.json()
    except ValueError:
        body = response.text[:300]
    text: object = body
    if isinstance(body, dict):
        text = next((body[key] for key in _MESSAGE_KEYS if body.get(key)), body)
        if isinstance(text, dict):
            text = next((text[key] for key in _MESSAGE_KEYS if text.get(key)), text)
        request_id = request_id or body.get("request_id")
    if not text and response.is_redirect:
        text = "expected an answer, got a redirect; give the final address of the service"
    return str(text or "no message in the answer").strip(), request_id and str(request_id)


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return 1.0
