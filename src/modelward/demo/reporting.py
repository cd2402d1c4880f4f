"""Where the detections of a reference run go: Microsoft Sentinel, Splunk, both or nowhere."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from modelward.domain import InvalidParameterError
from modelward.siem import CREDENTIALS, make_sinks

__all__ = ["Delivered", "SiemTarget", "report_deliveries", "unreported"]

_FLUSH_SECONDS = 10.0
_OPTIONS = {
    "azure_log_customer_id": "azure_log_customer_id",
    "azure_log_shared_key": "azure_log_shared_key",
    "splunk_url": "splunk_url",
    "authorization": "splunk_token",
}
"""Argument of the artifact -> field that it comes from."""


@dataclass(frozen=True, kw_only=True)
class SiemTarget:
    """Credentials for the defence; secrets stay out of ``repr``. Empty: nothing is sent."""

    azure_log_customer_id: str | None = None
    """Workspace id of Microsoft Sentinel."""
    azure_log_shared_key: str | None = field(default=None, repr=False)
    """Its primary or secondary key."""
    azure_log_endpoint: str | None = None
    """Address instead of the workspace's own."""
    splunk_url: str | None = None
    """Address of a Splunk HTTP Event Collector."""
    splunk_token: str | None = field(default=None, repr=False)
    """Its token."""
    ca_bundle: str | None = None
    """PEM file of authorities to trust instead of the system's."""

    def __post_init__(self) -> None:
        if self.azure_log_endpoint and not self.azure_log_customer_id:
            raise InvalidParameterError(
                "azure_log_endpoint: expected together with azure_log_customer_id, got no workspace"
            )
        try:
            with _silence():  # the artifact says what is to be said, once
                make_sinks(
                    self._credentials(),
                    azure_log_endpoint=self.azure_log_endpoint or None,
                    ca_bundle=self.ca_bundle or None,
                    environment={},
                )
        except ValueError as error:
            text = str(error).replace("Pass allow_http=True where", "Use https, even where")
            raise InvalidParameterError(_renamed(text)) from None

    @classmethod
    def from_environment(cls, **given: str | None) -> Self:
        """What was given, and for the rest the variables that the artifact reads.

        Args:
            given: Fields; None where not given.
        """
        around = {
            _OPTIONS[argument]: os.environ.get(variable)
            for argument, variable in CREDENTIALS.items()
        }
        return cls(**{**around, **{name: value for name, value in given.items() if value}})

    @property
    def active(self) -> bool:
        """Whether there is anywhere to send."""
        return any(self._credentials().values())

    def arguments(self, spool: Path) -> dict[str, Any]:
        """Arguments for ``AISDefenseModel``.

        Args:
            spool: File in which events wait.
        """
        return {
            **self._credentials(),
            "azure_log_endpoint": self.azure_log_endpoint or None,
            "ca_bundle": self.ca_bundle or None,
            "spool_path": str(spool),
        }

    def _credentials(self) -> dict[str, str | None]:
        return {argument: getattr(self, name) or None for argument, name in _OPTIONS.items()}


@dataclass(frozen=True)
class Delivered:
    """What became of a run's events at one SIEM."""

    siem: str
    delivered: int
    pending: int
    rejected: int


def report_deliveries(defense: Any, console: Console) -> list[Delivered]:
    """Bring the events of a defence to the SIEMs, say what became of them, and close it.

    Args:
        defense: From ``load_defense`` with credentials.
        console: Where it is said; a SIEM that does not answer is told and no error.

    Returns:
        One row for every SIEM.
    """
    defense.flush(_FLUSH_SECONDS)
    stats = defense.stats()
    defense.close()
    rows = []
    for name, state in stats.get("sinks", {}).items():
        row = Delivered(name, state["delivered"], state["pending"] or 0, state["dead"] or 0)
        rows.append(row)
        text = f"{name}: {row.delivered} of {stats['submitted']} detections delivered"
        text += f", {row.pending} pending" * (row.pending > 0)
        text += f", {row.rejected} rejected" * (row.rejected > 0)
        text += f" ({state['last_error']})" * bool(state["last_error"])
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if any(row.pending for row in rows):
        console.print(
            f"Pending detections wait in {stats['spool']}; a defence with this spool_path sends "
            "them.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return rows


@contextmanager
def unreported() -> Iterator[None]:
    """Hide the artifact's variables: false alarms of a measurement are no attacks to report."""
    hidden = {name: os.environ.pop(name) for name in CREDENTIALS.values() if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _renamed(text: str) -> str:
    """A message about arguments of the artifact in the words of the options."""
    return text.replace("authorization", _OPTIONS["authorization"])


@contextmanager
def _silence() -> Iterator[None]:
    log = logging.getLogger("modelward.siem")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
