"""Log Analytics' HTTP Data Collector API, as Microsoft documents it.

Source: "Send log data to Azure Monitor by using the HTTP Data Collector API", learn.microsoft.com.
"""

import base64
import hmac
import re
from email.utils import parsedate_to_datetime
from typing import Any

from modelward.siem_sink.answers import Answer, Question
from modelward.siem_sink.fields import contract_problem, iso_time, table_problem
from modelward.siem_sink.json_text import parse

__all__ = ["PATH", "DataCollectorRules", "expected_signature"]

PATH = "/api/logs"
VERSION = "2016-04-01"
MOST_BYTES = 30_000_000
MOST_COLUMNS = 500
MOST_SKEW = 900
"""Seconds between ``x-ms-date`` and the service's clock."""
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
AUTHORIZATION = re.compile(r"SharedKey ([^\s:]+):([A-Za-z0-9+/]+=*)")
DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3]\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"\d{4} [0-2]\d:[0-5]\d:[0-6]\d GMT"
)


def expected_signature(key: bytes, length: int, content_type: str, date: str) -> str:
    """Base64(HMAC-SHA256(UTF8(StringToSign))) of a POST to ``/api/logs``.

    Args:
        key: The workspace's key, decoded from base64.
        length: ``Content-Length`` in bytes.
        content_type: As in the header.
        date: ``x-ms-date`` as in the header.
    """
    parts = ("POST", str(length), content_type, f"x-ms-date:{date}", PATH)
    return base64.b64encode(hmac.digest(key, "\n".join(parts).encode("utf-8"), "sha256")).decode()


def seconds_of(date: str) -> float | None:
    """Seconds since 1970 of a date in RFC 1123 format; None where it is none."""
    if not DATE.fullmatch(date):
        return None
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def refusal(status: int, error: str, message: str) -> Answer:
    """An error in the service's form."""
    return Answer(status, {"Error": error, "Message": message}, f"{error}: {message}")


class DataCollectorRules:
    """Judges posts to one workspace.

    Args:
        workspace_id: Its id.
        shared_key: Its key, base64.
    """

    def __init__(self, workspace_id: str, shared_key: str) -> None:
        self._workspace = workspace_id
        self._key = base64.b64decode(shared_key, validate=True)
        self._columns: set[str] = set()

    def judge(self, question: Question, now: float) -> Answer:
        """Answer one post.

        Args:
            question: The request.
            now: The service's clock, seconds since 1970.
        """
        if len(question.body) > MOST_BYTES:
            return Answer(404, None, f"request too large: {len(question.body):,} bytes")
        for step in (self._form, self._sender, self._data):
            answer = step(question, now)
            if answer is not None:
                return answer
        records = self._records(question)
        return Answer(200, None, events=records)

    def _form(self, question: Question, _now: float) -> Answer | None:
        version = question.query.get("api-version")
        log_type = question.headers.get("log-type", "")
        content_type = question.headers.get("content-type", "")
        checks = (
            (version is None, "MissingApiVersion", "The API version was not specified."),
            (version != VERSION, "InvalidApiVersion", f"Expected the API version {VERSION}."),
            (not log_type, "MissingLogType", "The header Log-Type was not specified."),
            (
                not re.fullmatch(r"[A-Za-z0-9_]{1,100}", log_type),
                "InvalidLogType",
                "Log-Type: letters, digits and underscores only, at most 100.",
            ),
            (not content_type, "MissingContentType", "The content type was not specified."),
            (
                content_type.lower() != "application/json",
                "UnsupportedContentType",
                "Expected application/json.",
            ),
        )
        for wrong, error, message in checks:
            if wrong:
                return refusal(400, error, message)
        return None

    def _sender(self, question: Question, now: float) -> Answer | None:
        given = AUTHORIZATION.fullmatch(question.headers.get("authorization", ""))
        if given and not GUID.fullmatch(given[1]):
            return refusal(400, "InvalidCustomerId", "The workspace ID is invalid.")
        problem = self._forged(question, given, now)
        return refusal(403, "InvalidAuthorization", problem) if problem else None

    def _forged(self, question: Question, given: re.Match[str] | None, now: float) -> str:
        """Why the sender is not who it says, or nothing."""
        date = question.headers.get("x-ms-date", "")
        sent = seconds_of(date)
        if sent is None:
            return "x-ms-date is missing or not in RFC 1123 format."
        if given is None:
            return "Expected the header Authorization: SharedKey <id>:<signature>."
        wanted = expected_signature(
            self._key, len(question.body), question.headers["content-type"], date
        )
        known = given[1].lower() == self._workspace.lower()
        if not (hmac.compare_digest(given[2], wanted) and known):
            return "An invalid signature was specified in the Authorization header."
        if abs(sent - now) > MOST_SKEW:
            return (
                f"x-ms-date differs from the service's clock by {sent - now:+.0f} s; at most "
                f"{MOST_SKEW} s are allowed."
            )
        return ""

    def _records(self, question: Question) -> list[dict[str, Any]]:
        data = parse(question.body)
        return data if isinstance(data, list) else [data]

    def _data(self, question: Question, _now: float) -> Answer | None:
        def invalid(message: str) -> Answer:
            return refusal(400, "InvalidDataFormat", message)

        try:
            records = self._records(question)
        except (ValueError, RecursionError) as error:
            return invalid(f"No JSON: {str(error)[:200]}")
        if not records:
            return invalid("Expected one or more records.")
        time_field = question.headers.get("time-generated-field")
        columns = set(self._columns)
        for number, record in enumerate(records):
            problem = contract_problem(record) or table_problem(record)
            if not problem and time_field and not iso_time(record.get(time_field)):
                problem = f"time-generated-field {time_field[:60]}: no ISO 8601 time in it"
            if problem:
                return invalid(f"Record {number}: {problem}")
            columns |= set(record)
        if len(columns) > MOST_COLUMNS:
            return invalid(f"A table has at most {MOST_COLUMNS} columns, not {len(columns)}.")
        self._columns = columns
        return None
