"""What becomes of events in a Log Analytics table, and of a table in parsers and rules.

A model of Azure's documented behaviour, written from its documentation and from the published
AIShield solution; it shares nothing with the sender.
"""

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Row = dict[str, Any]

DATA_COLLECTOR_REJECTS = {"tenant", "TimeGenerated", "RawData"}
STANDARD = {"TenantId", "TimeGenerated", "Computer", "RawData", "Type", "_ResourceId"}
"""Columns that every table of the Data Collector has."""
ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")


class KqlError(Exception):
    """A query names a column that the table does not have: the rule does not run."""


@dataclass
class Table:
    """Rows, and the columns that the table has (a row may lack some)."""

    columns: set[str]
    rows: list[Row] = field(default_factory=list)


def data_collector_column(name: str, value: object) -> str:
    """The column that the Data Collector makes of a property."""
    if name == "Computer":
        # A standard column: it takes the property as it is, without a suffix.
        return name
    if isinstance(value, bool):
        return f"{name}_b"
    if isinstance(value, int | float):
        return f"{name}_d"
    assert isinstance(value, str), f"{name}: {type(value)}"
    if ISO_TIME.fullmatch(value):
        return f"{name}_t"
    return f"{name}_g" if is_guid(value) else f"{name}_s"


def is_guid(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True


def data_collector_table(records: Iterable[Row], time_field: str | None = None) -> Table:
    """The table that the HTTP Data Collector API makes of posted records."""
    table = Table(set(STANDARD))
    for record in records:
        reserved = DATA_COLLECTOR_REJECTS & set(record)
        assert not reserved, f"the API answers 400 to {reserved}"
        row: Row = {}
        for name, value in record.items():
            assert re.fullmatch(r"[A-Za-z0-9_]+", name), name
            if value is not None:
                row[data_collector_column(name, value)] = value
        # The field that gives TimeGenerated keeps its own column.
        row["TimeGenerated"] = record[time_field] if time_field else "2026-01-01T00:00:00Z"
        assert all(len(column) <= 45 for column in row)
        table.columns |= set(row)
        table.rows.append(row)
    return table


def ingested_table(records: Iterable[Row], declared: dict[str, str]) -> Table:
    """The table behind a data collection rule that passes the declared stream on unchanged."""
    table = Table({"TenantId", "Type", *declared})
    for record in records:
        assert set(record) <= set(declared), "the rule would drop undeclared columns"
        table.rows.append({name: value for name, value in record.items() if value is not None})
    return table


def published_parser(table: Table) -> Table:
    """The published ``AIShield`` function: renames, and grades in bands with gaps."""
    renames = {
        "attack_name_s": "AttackName",
        "RawMessage_s": "Message",
        "service_name_s": "ServiceName",
        "asset_id_s": "AssetId",
        "timestamp_t": "EventTimestamp",
        "source_name_s": "SourceName",
    }
    for column in ("probability_d", *renames):
        if column not in table.columns:
            raise KqlError(f"'project-rename' operator: Failed to resolve column {column}")
    columns = {renames.get(c, c) for c in table.columns} - {"probability_d"} | {"Severity"}
    rows = []
    for row in table.rows:
        kept = {renames.get(c, c): v for c, v in row.items() if c != "probability_d"}
        rows.append({**kept, "Severity": published_severity(row.get("probability_d"))})
    return Table(columns, rows)


def published_severity(probability: float | None) -> str:
    if probability is None:
        return "Unknown"
    if 0.85 <= probability <= 1.0:
        return "High"
    if 0.7 <= probability <= 0.84:
        return "Medium"
    return "Low" if probability < 0.7 else "Unknown"


def adapted_parser(table: Table) -> Table:
    """What ``deploy/sentinel/parser.kql`` does; the text itself is held in its own test."""
    names = {
        "Message": ("RawMessage_s",),
        "AttackName": ("attack_name_s",),
        "ServiceName": ("service_name_s",),
        "AssetId": ("asset_id_s",),
        "ModelId": ("model_id_s",),
        "SourceName": ("source_name_s",),
        "SuspiciousLevel": ("SuspiciousLevel", "SuspiciousLevel_s"),
        "EventId": ("event_id_s",),
        "Computer": ("Computer",),
    }
    rows, seen = [], set()
    for row in table.rows:
        made = {name: next((row[c] for c in cs if row.get(c)), "") for name, cs in names.items()}
        for name in ("AssetId", "ModelId"):
            made[name] = re.sub(r"^id-(\{?[0-9A-Fa-f-]{32,36}\}?)$", r"\1", made[name])
        if made["EventId"] in seen:
            continue
        seen |= {made["EventId"]} - {""}
        probability = row.get("probability_d")
        made["Probability"] = probability
        made["Severity"] = (
            "Unknown"
            if probability is None
            else "High"
            if probability >= 0.85
            else "Medium"
            if probability >= 0.7
            else "Low"
        )
        made["TimeGenerated"] = row["TimeGenerated"]
        rows.append(made)
    return Table(set(names) | {"Severity", "Probability", "TimeGenerated"}, rows)


def has(value: object, words: str) -> bool:
    """KQL's ``has``: whole terms, whatever the case."""
    pattern = rf"(?<![^\W_]){re.escape(words)}(?![^\W_])"
    return re.search(pattern, str(value or ""), re.IGNORECASE) is not None


def equal(value: object, words: str) -> bool:
    """KQL's ``=~``."""
    return str(value or "").lower() == words.lower()


OPERATORS: dict[str, Callable[[object, str], bool]] = {"has": has, "=~": equal}


def matches(table: Table, conditions: Iterable[tuple[str, str, str]]) -> list[Row]:
    """Rows that a rule's ``where`` lines let through.

    Raises:
        KqlError: A line names a column that is not there.
    """
    rows = table.rows
    for column, operator, words in conditions:
        if column not in table.columns:
            raise KqlError(f"'where' operator: Failed to resolve scalar expression '{column}'")
        rows = [row for row in rows if OPERATORS[operator](row.get(column), words)]
    return rows


def conditions_of(query: str) -> list[tuple[str, str, str]]:
    """The ``where`` lines of a query that compare with a text."""
    found = re.findall(r"\| where (\w+) (has|=~) '([^']*)'", query)
    return [(column, operator, words) for column, operator, words in found]


def as_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
