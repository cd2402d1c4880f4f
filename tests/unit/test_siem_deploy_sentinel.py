"""Do the templates in ``deploy/sentinel`` fit the sender, and each other?"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from siem_tables import STANDARD, data_collector_column

from modelward.siem import Event
from modelward.siem.sentinel_logs import COLUMNS, row_of

DEPLOY = Path(__file__).parents[2] / "deploy" / "sentinel"
RESERVED = {"_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title"}
TABLE_TYPES = {"string", "int", "long", "real", "boolean", "dateTime", "guid", "dynamic"}
STREAM_TYPES = {"string", "int", "long", "real", "boolean", "datetime", "dynamic"}
FUNCTIONS = {
    "ago", "arg_min", "case", "coalesce", "column_ifexists", "count", "datetime", "ingestion_time",
    "isempty", "isnotempty", "max", "real", "replace_regex", "split", "sum", "take_any", "tostring",
}  # fmt: skip
WORDS = {
    "let", "extend", "where", "union", "project", "summarize", "by", "and", "or", "has", "null",
}  # fmt: skip


def template(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / name).read_text(encoding="utf-8"))
    return loaded


def resource(name: str) -> dict[str, Any]:
    (only,) = template(name)["resources"]
    found: dict[str, Any] = only
    return found


def table_columns(*, migrated: bool = False) -> list[dict[str, str]]:
    """The columns that the template gives the table."""
    schema = resource("table.json")["properties"]["schema"]
    assert schema["name"] == "AIShield_CL"
    assert schema["columns"] == (
        "[concat(variables('columns'), "
        "if(parameters('migrated'), variables('ofDataCollector'), variables('computer')))]"
    )
    made = template("table.json")["variables"]
    return [*made["columns"], *made["ofDataCollector" if migrated else "computer"]]


def columns_of_table() -> dict[str, str]:
    return {column["name"]: column["type"] for column in table_columns()}


def columns_of_stream() -> dict[str, str]:
    streams = resource("dcr.json")["properties"]["streamDeclarations"]
    return {c["name"]: c["type"] for c in streams["Custom-AIShield_CL"]["columns"]}


def event() -> Event:
    return Event(
        raw_message="x", service_name="s", asset_id="a", source_name="192.0.2.7", probability=0.9
    )


def read_by(query: str) -> set[str]:
    """Names in a query that are neither KQL nor made by it."""
    bare = re.sub(r"//[^\n]*|@?'[^']*'|\"[^\"]*\"", " ", query)
    made = set(re.findall(r"(\w+)\s*=(?![=~])", bare))
    return set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", bare)) - made - FUNCTIONS - WORDS


@pytest.mark.parametrize(
    "name", ["table.json", "dcr.json", "endpoint.json", "parser.json", "rules.json"]
)
def test_template_is_one_of_arm_and_uses_what_it_declares(name: str) -> None:
    loaded = template(name)
    assert loaded["$schema"].endswith("/2019-04-01/deploymentTemplate.json#")
    assert loaded["contentVersion"] == "1.0.0.0"
    for found in loaded["resources"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["apiVersion"])
        assert found["type"].startswith("Microsoft.")
    text = json.dumps(loaded)
    assert set(re.findall(r"parameters\('(\w+)'\)", text)) == set(loaded["parameters"])
    assert set(re.findall(r"variables\('(\w+)'\)", text)) == set(loaded.get("variables", {}))


def test_no_template_is_left_out_of_the_tests() -> None:
    assert {path.name for path in DEPLOY.iterdir()} == {
        "table.json", "dcr.json", "endpoint.json", "parser.json", "parser.kql", "rules.json",
    }  # fmt: skip


def test_table_and_stream_declare_every_column_with_the_type_that_is_sent() -> None:
    kinds = {str: "string", float: "real", int: "real"}
    sent = {"TimeGenerated": "datetime"}
    for field, value in event().fields().items():
        timed = field == "timestamp"
        sent[COLUMNS[field]] = "datetime" if timed else kinds[type(value)]
    assert columns_of_stream() == sent
    assert {name: kind.lower() for name, kind in columns_of_table().items()} == sent
    assert set(row_of(event().fields())) == set(sent)


def test_a_migrated_table_keeps_what_the_data_collector_made_and_gains_the_rest() -> None:
    collected = {data_collector_column(name, v) for name, v in event().fields().items()}
    migrated = {column["name"] for column in table_columns(migrated=True)}
    assert collected - migrated == {"Computer"}, "a standard column of such a table"
    assert migrated - collected == {"TimeGenerated", "SuspiciousLevel"}


def test_suffixes_are_those_that_the_data_collector_would_give() -> None:
    for field, value in event().fields().items():
        if field != "SuspiciousLevel":
            assert COLUMNS[field] == data_collector_column(field, value)


def test_columns_keep_the_limits_of_log_analytics() -> None:
    table, stream = columns_of_table(), columns_of_stream()
    for name in table:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,44}", name)
        assert name not in RESERVED
    assert set(table.values()) <= TABLE_TYPES
    assert set(stream.values()) <= STREAM_TYPES
    assert all(column["description"] for column in table_columns())


def test_rule_flows_from_the_declared_stream_into_the_table() -> None:
    found = resource("dcr.json")
    properties = found["properties"]
    assert found["kind"] == "Direct", "without it the rule has no ingestion address of its own"
    destinations = {d["name"] for d in properties["destinations"]["logAnalytics"]}
    (flow,) = properties["dataFlows"]
    assert set(flow["streams"]) == set(properties["streamDeclarations"])
    assert set(flow["destinations"]) <= destinations
    assert (
        flow["outputStream"] == f"Custom-{resource('table.json')['properties']['schema']['name']}"
    )
    assert flow["transformKql"] == "source"


def test_parser_template_holds_the_parser_file() -> None:
    properties = resource("parser.json")["properties"]
    assert properties["query"] == (DEPLOY / "parser.kql").read_text(encoding="utf-8")
    assert template("parser.json")["parameters"]["functionAlias"]["defaultValue"] == "AIShield"


def test_parser_reads_only_columns_that_one_of_the_ways_makes() -> None:
    query = (DEPLOY / "parser.kql").read_text(encoding="utf-8")
    read = set(re.findall(r'column_ifexists\("(\w+)"', query))
    collected = {data_collector_column(name, v) for name, v in event().fields().items()}
    assert read <= set(columns_of_table()) | collected
    assert read >= set(columns_of_table()) - {"TimeGenerated"}
    assert read >= collected
    # A column that may be missing is only read through column_ifexists.
    assert read_by(query) - {"AIShield_CL", "Reports"} <= {"TimeGenerated"} <= STANDARD


def test_the_check_of_names_finds_a_wrong_one() -> None:
    assert read_by("T | extend A = tostring(B) // C\n| where D == 'E' and A has 'F'") == {
        "T",
        "B",
        "D",
    }


def test_parser_defaults_have_the_type_of_their_column() -> None:
    query = (DEPLOY / "parser.kql").read_text(encoding="utf-8")
    defaults = dict(re.findall(r'column_ifexists\("(\w+)", ("|datetime|real)', query))
    kinds = {'"': "string", "datetime": "dateTime", "real": "real"}
    for name, kind in columns_of_table().items():
        if name != "TimeGenerated":
            assert kinds[defaults[name]] == kind


def test_parser_grades_without_gaps_and_keeps_the_first_arrival() -> None:
    query = (DEPLOY / "parser.kql").read_text(encoding="utf-8")
    graded = re.findall(r'Probability (>=|<) ([\d.]+), "(\w+)"', query)
    assert graded == [(">=", "0.85", "High"), (">=", "0.7", "Medium"), ("<", "0.7", "Low")]
    assert "summarize arg_min(IngestedAt, *) by EventId" in query
    assert "where isempty(EventId)" in query, "reports of other senders have no id"


def test_rules_read_only_what_the_parser_gives() -> None:
    parser = (DEPLOY / "parser.kql").read_text(encoding="utf-8")
    given = {name.strip() for name in parser.rsplit("project", 1)[1].split(",")}
    rules = template("rules.json")
    for query in rules["variables"].values():
        units = re.sub(r"\b\d+m\b", "", query)
        assert read_by(units) - {"PARSER"} <= given
    for rule in rules["resources"]:
        key = re.search(r"variables\('(\w+)'\)", rule["properties"]["query"])
        assert key is not None
        shown = given | set(re.findall(r"(\w+) =", rules["variables"][key[1]]))
        used = re.findall(r"\{\{(\w+)\}\}", json.dumps(rule["properties"]["alertDetailsOverride"]))
        used += [
            m["columnName"]
            for e in rule["properties"]["entityMappings"]
            for m in e["fieldMappings"]
        ]
        used += rule["properties"]["customDetails"].values()
        assert set(used) <= shown


def test_rules_look_at_arrivals_as_often_as_they_run() -> None:
    # By TimeGenerated a report that waited for the end of an outage would never be looked at.
    rules = template("rules.json")
    for rule in rules["resources"]:
        assert rule["properties"]["queryFrequency"] == "PT15M"
        assert rule["properties"]["queryPeriod"] == "P1D"
    for name, query in rules["variables"].items():
        column = "LastArrival" if name == "flood" else "IngestedAt"
        assert f"| where {column} > ago(15m)" in query


@pytest.mark.parametrize(("key", "severity"), [("high", "High"), ("low", "Medium")])
def test_alert_severity_is_that_of_the_reports(key: str, severity: str) -> None:
    rules = template("rules.json")
    (rule,) = [r for r in rules["resources"] if f"'{key}'" in r["properties"]["query"]]
    assert rule["properties"]["severity"] == severity
    assert f"Severity =~ '{severity}'" in rules["variables"][key]
