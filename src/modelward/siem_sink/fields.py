"""What an event must look like: the contract's names and types, and what the services allow."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

__all__ = ["contract_problem", "iso_time", "table_problem"]

TEXTS = (
    "RawMessage",
    "service_name",
    "asset_id",
    "source_name",
    "attack_name",
    "timestamp",
    "SuspiciousLevel",
    "Computer",
)
"""Text fields that every event carries."""
MAY_BE_EMPTY = frozenset({"SuspiciousLevel", "Computer"})
OPTIONAL_TEXTS = ("event_id", "model_id", "job_id", "defense_version")
LEVELS = ("", "high suspicious attack", "low suspicious attack")
MOST_FIELD_BYTES = 32 * 1024
MOST_NAME = 45
SURROGATE = re.compile("[\ud800-\udfff]")
RESERVED = frozenset({"tenant", "timegenerated", "rawdata"})


def contract_problem(event: object) -> str:
    """Hold an event against the contract (names, types, ranges).

    Returns:
        What is wrong, or nothing.
    """
    if not isinstance(event, Mapping):
        return f"expected an object with fields, got {kind(event)}"
    for name in TEXTS:
        if name not in event:
            return f"{name}: missing"
        if not event[name] and name not in MAY_BE_EMPTY:
            return f"{name}: expected a text, got nothing"
    for name in (*TEXTS, *OPTIONAL_TEXTS):
        if not isinstance(event.get(name, ""), str):
            return f"{name}: expected a text, got {kind(event[name])}"
    for name, value in event.items():
        if isinstance(value, str) and SURROGATE.search(value):
            return f"{name}: half of a surrogate pair is no character"
    return number_problem(event) or meaning_problem(event)


def number_problem(event: Mapping[str, Any]) -> str:
    """What is wrong with ``probability`` and ``rows``."""
    if "probability" not in event:
        return "probability: missing"
    value = event["probability"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"probability: expected a number, got {kind(value)}"
    if not 0 <= value <= 1:
        return f"probability: expected 0 to 1, got {value}"
    if round(value, 2) != value:
        return f"probability: expected two decimals, got {value}"
    rows = event.get("rows", 1)
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        return f"rows: expected an integer from 1, got {rows!r}"
    return ""


def meaning_problem(event: Mapping[str, Any]) -> str:
    """What is wrong with ``timestamp`` and ``SuspiciousLevel``."""
    if not iso_time(event["timestamp"]):
        return f"timestamp: expected ISO 8601 with a zone, got {event['timestamp'][:40]!r}"
    if event["SuspiciousLevel"] not in LEVELS:
        return f"SuspiciousLevel: expected one of {LEVELS}, got {event['SuspiciousLevel'][:40]!r}"
    return ""


def table_problem(record: Mapping[str, Any]) -> str:
    """Hold a record against the limits of a Log Analytics table."""
    for name, value in record.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            return f"{name[:60]!r}: a column name has letters, digits and underscores only"
        if len(name) > MOST_NAME:
            return f"{name[:60]}: a column name has at most {MOST_NAME} characters"
        if name.lower() in RESERVED:
            return f"{name}: this name is reserved"
        size = len(value.encode("utf-8", "replace")) if isinstance(value, str) else 0
        if size > MOST_FIELD_BYTES:
            return f"{name}: {size:,} bytes; the service would cut it at {MOST_FIELD_BYTES:,}"
    return ""


def iso_time(text: object) -> bool:
    """Whether a text is an ISO 8601 time with a zone."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).tzinfo is not None
    except ValueError:
        return False


def kind(value: object) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "an array", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
