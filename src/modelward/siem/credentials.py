"""From the arguments of a defence to its sinks."""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelward.siem.sentinel import DataCollector
from modelward.siem.splunk import SplunkCollector

__all__ = ["CREDENTIALS", "default_spool", "make_sinks"]

CREDENTIALS = {
    "azure_log_customer_id": "MODELWARD_AZURE_LOG_CUSTOMER_ID",
    "azure_log_shared_key": "MODELWARD_AZURE_LOG_SHARED_KEY",
    "splunk_url": "MODELWARD_SPLUNK_URL",
    "authorization": "MODELWARD_SPLUNK_AUTHORIZATION",
}
"""Argument -> environment variable that is read where the argument is not given."""
PAIRS = (("azure_log_customer_id", "azure_log_shared_key"), ("splunk_url", "authorization"))


def make_sinks(
    given: Mapping[str, str | None],
    *,
    azure_log_endpoint: str | None = None,
    ca_bundle: str | None = None,
    allow_http: bool = False,
    acknowledge: bool = False,
    environment: Mapping[str, str] | None = None,
) -> list[Any]:
    """Sinks for the credentials at hand.

    Args:
        given: Argument name -> value, None where not given.
        azure_log_endpoint: Address instead of the workspace's own.
        ca_bundle: PEM file of authorities to trust.
        allow_http: Whether plain http may leave this machine.
        acknowledge: Whether to wait for Splunk's indexers.
        environment: Instead of the process's.

    Returns:
        None, one or two sinks.

    Raises:
        ValueError: Half a pair, or a malformed value; the message names the argument.
    """
    around = os.environ if environment is None else environment
    values = {
        name: (given.get(name) or around.get(variable) or "").strip()
        for name, variable in CREDENTIALS.items()
    }
    for pair in PAIRS:
        have = [name for name in pair if values[name]]
        if len(have) == 1:
            missing = next(name for name in pair if name not in have)
            raise ValueError(
                f"{missing}: expected together with {have[0]}, got nothing; pass it or set "
                f"{CREDENTIALS[missing]}"
            )
    sinks: list[Any] = []
    if values["azure_log_customer_id"]:
        sinks.append(
            DataCollector(
                values["azure_log_customer_id"],
                values["azure_log_shared_key"],
                endpoint=azure_log_endpoint,
                ca_bundle=ca_bundle,
                allow_http=allow_http,
            )
        )
    if values["splunk_url"]:
        sinks.append(
            SplunkCollector(
                values["splunk_url"],
                values["authorization"],
                ca_bundle=ca_bundle,
                allow_http=allow_http,
                acknowledge=acknowledge,
            )
        )
    return sinks


def default_spool(asset_id: str) -> Path:
    """The spool of a protected asset in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME")
    try:
        if state:
            folder = Path(state)
        elif os.name == "nt":
            folder = Path(os.environ.get("LOCALAPPDATA") or Path.home())
        else:
            folder = Path.home() / ".local" / "state"
    except RuntimeError:
        # Containers run as users without a home. Others may write here, hence a new folder.
        folder = Path(tempfile.mkdtemp(prefix="modelward-"))
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", asset_id)[:80].lstrip(".") or "asset"
    return folder / "modelward" / f"siem-{safe}.db"
