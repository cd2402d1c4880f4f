"""From the service's settings to the SIEMs that it reports to."""

import ssl
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from modelward.domain import InvalidInputError
from modelward.settings import Settings
from modelward.siem import DataCollector, SentinelLogs, SplunkCollector

__all__ = ["sinks_of"]

_SETTING_OF = {
    "azure_log_customer_id": "siem_azure_log_customer_id",
    "azure_log_shared_key": "siem_azure_log_shared_key",
    "azure_log_endpoint": "siem_azure_log_endpoint",
    "splunk_url": "siem_splunk_url",
    "authorization": "siem_splunk_authorization",
    "endpoint": "siem_sentinel_endpoint",
    "dcr_immutable_id": "siem_sentinel_dcr",
    "stream_name": "siem_sentinel_stream",
}
"""Argument that a sink blames -> setting that it came from."""
_NEEDS = (
    ("siem_azure_log_customer_id", "siem_azure_log_shared_key"),
    ("siem_azure_log_shared_key", "siem_azure_log_customer_id"),
    ("siem_azure_log_endpoint", "siem_azure_log_customer_id"),
    ("siem_sentinel_endpoint", "siem_sentinel_dcr"),
    ("siem_sentinel_dcr", "siem_sentinel_endpoint"),
    ("siem_splunk_url", "siem_splunk_authorization"),
    ("siem_splunk_authorization", "siem_splunk_url"),
)
"""(given, what it needs beside it)."""


def sinks_of(settings: Settings) -> list[Any]:
    """The SIEMs that are configured; nothing is sent yet.

    Args:
        settings: Effective settings.

    Returns:
        None to three sinks.

    Raises:
        InvalidInputError: Half a pair, a malformed value, or packages that are missing; the message
            names the setting and never shows a secret.
    """
    value = {name: _text(settings, name) for pair in _NEEDS for name in pair}
    for given, needed in _NEEDS:
        if value[given] and not value[needed]:
            raise InvalidInputError(
                f"{needed}: expected together with {given}, got nothing; set "
                f"MODELWARD_{needed.upper()}, or leave {given} out"
            )
    bundle = _bundle(settings) if any(value.values()) else None
    common: dict[str, Any] = {"ca_bundle": bundle, "allow_http": settings.siem_allow_http}
    sinks: list[Any] = []
    if customer := value["siem_azure_log_customer_id"]:
        key, endpoint = value["siem_azure_log_shared_key"], value["siem_azure_log_endpoint"]
        sinks.append(
            _made(lambda: DataCollector(customer, key, endpoint=endpoint or None, **common))
        )
    if endpoint := value["siem_sentinel_endpoint"]:
        rule, stream = value["siem_sentinel_dcr"], settings.siem_sentinel_stream
        sinks.append(_made(lambda: SentinelLogs(endpoint, rule, stream, ca_bundle=bundle)))
    if url := value["siem_splunk_url"]:
        token = value["siem_splunk_authorization"]
        sinks.append(_made(lambda: SplunkCollector(url, token, **common)))
    return sinks


def _text(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    return (plain or "").strip()


def _bundle(settings: Settings) -> str | None:
    path = settings.siem_ca_bundle
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(
            f"siem_ca_bundle: expected a readable PEM file with certificates at {path}; {error}"
        ) from None
    return str(path)


def _made(make: Callable[[], Any]) -> Any:
    """A sink; what it blames is translated into the setting's name."""
    try:
        return make()
    except ValueError as error:
        argument, _, rest = str(error).partition(":")
        text = f"{_SETTING_OF.get(argument, argument)}:{rest}"
        remedy = text.replace("Pass allow_http=True", "Set siem_allow_http = true")
        raise InvalidInputError(remedy) from None
    except ImportError as error:
        raise InvalidInputError(f"siem_sentinel_endpoint: {error}") from None
