"""Microsoft Sentinel through the Logs Ingestion API: endpoint, data collection rule, credential."""

from collections.abc import Sequence
from typing import Any

from modelward.siem.transport import BUSY, SLOW_RETRY_SECONDS, Outcome, checked_url, shortened

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
        base = checked_url("endpoint", endpoint, allow_http=False)
        if not base.startswith("https://"):
            raise ValueError("endpoint: expected https, since a token goes with every request")
        for name, value in (("dcr_immutable_id", dcr_immutable_id), ("stream_name", stream_name)):
            if not value or not str(value).strip():
                raise ValueError(f"{name}: expected a name, got nothing")
        try:
            from azure.monitor.ingestion import LogsIngestionClient

            if credential is None:
                from azure.identity import DefaultAzureCredential

                credential = DefaultAzureCredential()
        except ImportError as error:
            raise ImportError(
                f"SentinelLogs needs the Azure packages ({error}): "
                'pip install "modelward[sentinel]"'
            ) from None
        self._rule, self._stream = str(dcr_immutable_id), str(stream_name)
        options: dict[str, Any] = {"connection_verify": str(ca_bundle)} if ca_bundle else {}
        # The spool retries: the client's own retries would only hold the thread.
        self._client = LogsIngestionClient(base, credential, retry_total=0, **options)

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
            self._client.upload(rule_id=self._rule, stream_name=self._stream, logs=rows)
        except ClientAuthenticationError as error:
            return Outcome(
                "retry",
                f"Azure gave no access ({type(error).__name__} {error.status_code or ''}): the "
                "credential needs the role Monitoring Metrics Publisher on the rule",
                SLOW_RETRY_SECONDS,
            )
        except HttpResponseError as error:
            return outcome_of(error)
        except AzureError as error:
            return Outcome("retry", f"Azure was not reached: {type(error).__name__}")
        return Outcome("accepted")


def row_of(event: dict[str, Any]) -> dict[str, Any]:
    """The columns of one event, with ``TimeGenerated``."""
    row = {column: shortened(event.get(name)) for name, column in COLUMNS.items()}
    return {"TimeGenerated": event.get("timestamp"), **row}


def outcome_of(error: Any) -> Outcome:
    """What to do about a refusal of the ingestion endpoint."""
    status = error.status_code
    said = " ".join(str(getattr(error, "message", "")).split())[:200]
    text = f"Azure answered {status} {said}"
    response = getattr(error, "response", None)
    after = str(getattr(response, "headers", {}).get("Retry-After", ""))
    wait = float(after) if after.isdigit() else None
    if status in (400, 413):
        return Outcome("rejected", text)
    if status in BUSY or status is None:
        return Outcome("retry", text, wait)
    return Outcome(
        "retry",
        f"{text}: expected 204; check endpoint, dcr_immutable_id, stream_name and the role "
        "Monitoring Metrics Publisher",
        wait or SLOW_RETRY_SECONDS,
    )
