"""Microsoft Sentinel through the Logs Ingestion API: endpoint, data collection rule, credential."""

import re
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from modelward.siem.transport import (
    BUSY,
    SLOW_RETRY_SECONDS,
    TIMEOUT_SECONDS,
    Outcome,
    checked_url,
    reply_of,
    shortened,
    told,
)

__all__ = ["COLUMNS", "SentinelLogs"]

COLUMNS = {
    "RawMessage": "RawMessage_s",
    "service_name": "service_name_s",
    "asset_id": "asset_id_s",
    "source_name": "source_name_s",
    "probability": "probability_d",
    "attack_name": "attack_name_s",
    "timestamp": "timestamp_t",
    "SuspiciousLevel": "SuspiciousLevel",
    "Computer": "Computer",
    "event_id": "event_id_s",
    "model_id": "model_id_s",
    "job_id": "job_id_s",
    "defense_version": "defense_version_s",
    "rows": "rows_d",
}
"""Field -> column of the stream: the names that the published parser reads from the table."""
SCOPES = {
    ".azure.us": "https://monitor.azure.us/.default",
    ".azure.cn": "https://monitor.azure.cn/.default",
}
"""What a token is asked for in clouds of their own; elsewhere the client's default."""
SETTINGS_CODES = re.compile("stream|rule|apiversion", re.IGNORECASE)
"""Found in the code of a 400: the settings are to blame, and no event."""


class SentinelLogs:
    """Sends events to a table through a data collection rule (DCR).

    Needs ``pip install "modelward[sentinel]"``. Pass it to a defence as ``sink=``.

    Args:
        endpoint: Logs ingestion address of the data collection endpoint or rule.
        dcr_immutable_id: ``dcr-...`` of the rule.
        stream_name: Stream that the rule declares, such as ``Custom-AIShield_CL``.
        credential: Any ``azure.core.credentials.TokenCredential``; by default what
            ``azure.identity.DefaultAzureCredential`` finds.
        ca_bundle: PEM file of authorities to trust instead of the system's.

    Raises:
        ImportError: The Azure packages are missing; the message says how to get them.
        ValueError: An argument is malformed.
    """

    name = "sentinel-logs"

    def __init__(
        self,
        endpoint: str,
        dcr_immutable_id: str,
        stream_name: str = "Custom-AIShield_CL",
        credential: Any = None,
        *,
        ca_bundle: str | None = None,
    ) -> None:
        # Plain http is refused here, on loopback too, and without pointing at an option.
        base = checked_url("endpoint", endpoint, allow_http=True)
        if not base.startswith("https://"):
            raise ValueError("endpoint: expected https, since a token goes with every request")
        self._rule, self._stream = str(dcr_immutable_id).strip(), str(stream_name).strip()
        if not re.fullmatch(r"dcr-[A-Za-z0-9-]+", self._rule):
            raise ValueError(
                "dcr_immutable_id: expected the immutable id of the data collection rule (dcr- "
                f"and letters or digits; not its name or resource id), got {self._rule[:80]!r}"
            )
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self._stream):
            raise ValueError(
                "stream_name: expected a stream that the rule declares, such as "
                f"Custom-AIShield_CL, got {self._stream[:80]!r}"
            )
        self._upload = uploader(base, credential, checked_bundle(ca_bundle))

    def __repr__(self) -> str:
        return f"SentinelLogs({self._rule!r}, {self._stream!r})"

    def send(self, events: Sequence[dict[str, Any]]) -> Outcome:
        """Send a batch once.

        Args:
            events: What ``Event.fields`` gives.
        """
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

        rows: list[Any] = [row_of(event) for event in events]
        try:
            # Without a handler the client would log every failure as an error of its own.
            self._upload(
                rule_id=self._rule, stream_name=self._stream, logs=rows, on_error=raise_its_error
            )
        except ClientAuthenticationError as error:
            return Outcome(
                "retry",
                f"Azure gave no access ({type(error).__name__} {error.status_code or ''}".rstrip()
                + "): check the credential; it needs the role Monitoring Metrics Publisher on the "
                "rule",
                SLOW_RETRY_SECONDS,
            )
        except HttpResponseError as error:
            return outcome_of(error)
        except AzureError as error:
            return Outcome("retry", f"Azure was not reached: {cause_of(error)}")
        return Outcome("accepted")


def checked_bundle(ca_bundle: str | None) -> str | None:
    """A PEM file that can be read, or None.

    Raises:
        ValueError: It cannot be read.
    """
    if not ca_bundle:
        return None
    try:
        ssl.create_default_context(cafile=str(ca_bundle))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"ca_bundle: expected a readable PEM file with certificates; {error}"
        ) from None
    return str(ca_bundle)


def uploader(endpoint: str, credential: Any, ca_bundle: str | None) -> Callable[..., None]:
    """The ``upload`` of Azure's client, with this package's rules.

    Raises:
        ImportError: The Azure packages are missing; the message says how to get them.
    """
    try:
        from azure.monitor.ingestion import LogsIngestionClient

        if credential is None:
            from azure.identity import DefaultAzureCredential

            credential = DefaultAzureCredential()
    except ImportError as error:
        raise ImportError(
            f'SentinelLogs needs the Azure packages ({error}): pip install "modelward[sentinel]"'
        ) from None
    options: dict[str, Any] = {"connection_verify": ca_bundle} if ca_bundle else {}
    host = urlsplit(endpoint).hostname or ""
    for ending, scope in SCOPES.items():
        if host.endswith(ending):
            options["credential_scopes"] = [scope]
    client = LogsIngestionClient(
        endpoint,
        credential,
        # The spool retries: the client's own retries would only hold the thread.
        retry_total=0,
        # Its default of 300 s outlives the lease of the events.
        connection_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
        # A token goes where it was meant to go and nowhere else.
        permit_redirects=False,
        **options,
    )
    upload: Callable[..., None] = client.upload
    return upload


def raise_its_error(problem: Any) -> None:
    """Stop at the first chunk that fails."""
    raise problem.error


def row_of(event: dict[str, Any]) -> dict[str, Any]:
    """The columns of one event, with ``TimeGenerated``."""
    row = {column: shortened(storable(event.get(name))) for name, column in COLUMNS.items()}
    return {"TimeGenerated": event.get("timestamp"), **row}


def storable(value: object) -> object:
    """A text without lone surrogates, which no UTF-8 reader takes."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def cause_of(error: BaseException) -> str:
    """Why a connection failed, from the operating system or TLS; never the request's own text."""
    at: BaseException | None = error
    seen: set[int] = set()
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        # Other layers put headers into their messages, and the token is one.
        if isinstance(at, OSError) and type(at).__module__ in ("builtins", "ssl", "socket"):
            return f"{type(at).__name__}: {at}"[:300]
        at = getattr(at, "inner_exception", None) or at.__cause__ or at.__context__
    return type(error).__name__


def outcome_of(error: Any) -> Outcome:
    """What to do about a refusal of the ingestion endpoint."""
    status = error.status_code
    detail = getattr(error, "error", None)
    said = told(str(getattr(error, "message", "")))
    named = re.match(r"\((\w+)\)", said)
    code = str(getattr(detail, "code", None) or (named[1] if named else ""))
    if detail is not None:
        said = told(f"{code} {getattr(detail, 'message', '')}")
    text = f"Azure answered {status} {said}"
    headers = getattr(getattr(error, "response", None), "headers", {})
    wait = reply_of(status or 0, headers, b"").retry_after
    # Only the code counts: a message about one event may name its stream.
    if status == 413 or (status == 400 and not SETTINGS_CODES.search(code)):
        return Outcome("rejected", text)
    if status in BUSY or status is None:
        return Outcome("retry", text, wait)
    return Outcome(
        "retry",
        f"{text}: expected 204; check endpoint, dcr_immutable_id, stream_name and the role "
        "Monitoring Metrics Publisher",
        max(wait or 0.0, SLOW_RETRY_SECONDS),
    )
