"""Microsoft Sentinel through the HTTP Data Collector API: workspace id and shared key."""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

from modelward.siem.transport import Outcome, Poster, checked_url, is_page, refused, shortened, told

__all__ = ["DataCollector"]

RESOURCE = "/api/logs"
API_VERSION = "2016-04-01"
DATA_ERRORS = frozenset({"InvalidDataFormat", "MaximumRequestSizeExceeded"})
SKEW_SECONDS = 300.0
SENTINEL_LOG = logging.getLogger("modelward.siem")


class DataCollector:
    """Sends events to the table ``<log_type>_CL`` of a Log Analytics workspace.

    The API was deprecated by Microsoft on 14 September 2026; ``modelward.siem.SentinelLogs`` sends
    through its successor.

    Args:
        customer_id: Workspace id.
        shared_key: Primary or secondary key of the workspace, base64.
        endpoint: Address instead of ``https://<customer_id>.ods.opinsights.azure.com``.
        log_type: Table name without ``_CL``.
        ca_bundle: PEM file of authorities to trust instead of the system's.
        allow_http: Whether plain http may leave this machine.
        poster: Replaces the HTTP client.
        clock: Seconds since 1970.

    Raises:
        ValueError: An argument is malformed; the message names it and never shows the key.
    """

    name = "sentinel"

    def __init__(
        self,
        customer_id: str,
        shared_key: str,
        *,
        endpoint: str | None = None,
        log_type: str = "AIShield",
        ca_bundle: str | None = None,
        allow_http: bool = False,
        poster: Poster | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._workspace = str(customer_id).strip()
        if not re.fullmatch(r"[A-Za-z0-9-]{1,63}", self._workspace):
            raise ValueError(
                "azure_log_customer_id: expected the workspace id (letters, digits, hyphens)"
            )
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", log_type):
            raise ValueError("log_type: expected letters, digits and underscores, up to 100")
        self._key = decoded_key(shared_key)
        base = endpoint or f"https://{self._workspace}.ods.opinsights.azure.com"
        base = checked_url("azure_log_endpoint", base, allow_http=allow_http)
        path = "" if urlsplit(base).path else RESOURCE
        self._url = f"{base}{path}?api-version={API_VERSION}"
        self._log_type = log_type
        self._poster = poster or Poster(ca_bundle)
        self._clock = clock
        self._skew = 0.0
        SENTINEL_LOG.warning(
            "Microsoft deprecated the HTTP Data Collector API (workspace id and shared key) on "
            "2026-09-14; move to the Logs Ingestion API: modelward.siem.SentinelLogs"
        )

    def __repr__(self) -> str:
        return f"DataCollector({self._workspace!r})"

    def send(self, events: Sequence[dict[str, Any]]) -> Outcome:
        """Send a batch once.

        Args:
            events: What ``Event.fields`` gives.
        """
        rows = [{name: texted(shortened(value)) for name, value in e.items()} for e in events]
        body = json.dumps(rows, ensure_ascii=False).encode("utf-8", "replace")
        now = self._clock()
        date = formatdate(now + self._skew, usegmt=True)
        reply = self._poster.post(
            self._url,
            body,
            {
                "Content-Type": "application/json",
                "Log-Type": self._log_type,
                "x-ms-date": date,
                "time-generated-field": "timestamp",
                "Authorization": self._signed(len(body), date),
            },
        )
        if reply.status == 200 and not is_page(reply):
            return Outcome("accepted")
        if reply.status == 400 and error_name(reply.body) in DATA_ERRORS:
            return Outcome("rejected", f"Sentinel answered 400 {told(reply.body, 300)}")
        if reply.status == 403 and reply.date is not None:
            behind = reply.date - (now + self._skew)
            if abs(behind) > SKEW_SECONDS:
                # A wrong clock makes every signature stale: follow the receiver's.
                self._skew += behind
                return Outcome(
                    "retry",
                    f"Sentinel answered 403 and its clock differs by {behind:+.0f} s from this "
                    "machine's; its time is used from now on. Set this machine's clock",
                    0.0,
                )
        return refused(
            reply, "Sentinel", "check azure_log_customer_id, azure_log_shared_key and the clock"
        )

    def _signed(self, length: int, date: str) -> str:
        text = f"POST\n{length}\napplication/json\nx-ms-date:{date}\n{RESOURCE}"
        digest = hmac.new(self._key, text.encode("ascii"), hashlib.sha256).digest()
        return f"SharedKey {self._workspace}:{base64.b64encode(digest).decode('ascii')}"


def decoded_key(shared_key: str) -> bytes:
    """The bytes of a base64 key.

    Raises:
        ValueError: It is no base64; the message does not repeat it.
    """
    try:
        key = base64.b64decode(str(shared_key).strip().encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise ValueError(
            "azure_log_shared_key: expected the workspace's primary or secondary key, which is "
            "base64; this value does not decode"
        ) from None
    return key


def texted(value: object) -> object:
    """Keep a GUID a text: the Data Collector would name its column ``_g`` instead of ``_s``."""
    if isinstance(value, str) and 32 <= len(value) <= 38:
        try:
            uuid.UUID(value)
        except ValueError:
            return value
        return f"id-{value}"
    return value


def error_name(body: str) -> str:
    """``Error`` of an answer such as ``{"Error": "InvalidDataFormat", "Message": ...}``."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return str(answer.get("Error", "")) if isinstance(answer, dict) else ""
