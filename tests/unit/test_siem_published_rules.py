"""Do the published Sentinel rules, and ours, match what the defences report?"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from siem_tables import (
    KqlError,
    Row,
    Table,
    adapted_parser,
    as_time,
    conditions_of,
    data_collector_table,
    ingested_table,
    matches,
    published_parser,
    published_severity,
)

from modelward.siem import DataCollector, Event, attack_rows, raw_message, service_name_of
from modelward.siem.sentinel_logs import row_of
from modelward.siem.transport import Reply

DEPLOY = Path(__file__).parents[2] / "deploy" / "sentinel"
MODEL_ID = "3f0b2a4c-8d1e-4f6a-9b7c-5e2d1c0a9f8e"

# The solution "AIShield AI Security Monitoring" of the public Azure-Sentinel repository: rule file
# -> what its query asks for. Rules without a level ask for severity High only.
HIGH, LOW = ("High", "high suspicious attack"), ("Medium", "low suspicious attack")
PUBLISHED = {
    "ImageClassficationModelExtractionHighSuspiciousVulnDetection": (
        "Image Classification AI Model Extraction Attack Identified",
        *HIGH,
    ),
    "ImageClassficationModelEvasionHighSuspiciousVulnDetection": (
        "Image Classification AI Model Evasion Attack Identified",
        *HIGH,
    ),
    "ImageClassficationModelEvasionLowSuspiciousVulnDetection": (
        "Image Classification AI Model Evasion Attack Identified",
        *LOW,
    ),
    "ImageSegmentationModelExtractionHighSuspiciousVulnDetection": (
        "Image Segmentation AI Model Extraction Attack Identified",
        *HIGH,
    ),
    "NaturalLanguageProcessingModelExtractionHighSuspiciousVulDetection": (
        "Natural Language Processing AI Model Extraction Attack Identified",
        *HIGH,
    ),
    "TabularClassificationModelEvasionHighSuspiciousVulnDetection": (
        "Tabular Classification AI Model Evasion Attack Identified",
        *HIGH,
    ),
    "TabularClassificationModelEvasionLowSuspiciousVulnDetection": (
        "Tabular Classification AI Model Evasion Attack Identified",
        *LOW,
    ),
    "TabularClassificationModelExtractionHighSuspiciousVulnDetection": (
        "Tabular Classification AI Model Extraction Attack Identified",
        *HIGH,
    ),
    "TimeSeriesForecastingModelExtractionHighSuspiciousVulnDetection": (
        "Timeseries Forecasting AI Model Extraction Attack Identified",
        *HIGH,
    ),
    "ImageClassficationModelExtractionVulnDetection": (
        "Image Classification AI Model Extraction Attack Identified",
        "High",
        None,
    ),
    "ImageClassificationModelEvasionVulnDetection": (
        "Image Classification AI Model Evasion Attack Identified",
        "High",
        None,
    ),
    "NaturalLanguageProcessingModelExtractionVulDetection": (
        "Natural Language Processing AI Model Extraction Attack Identified",
        "High",
        None,
    ),
    "TabularClassificationModelExtractionVulnDetection": (
        "Tabular Classification AI Model Extraction Attack Identified",
        "High",
        None,
    ),
    "TimeSeriesForecastingModelExtractionVulnDetection": (
        "TimeSeries Forecasting AI Model Extraction Attack Identified",
        "High",
        None,
    ),
}
TASK_TEXTS = {
    "image_classification": "Image Classification",
    "tabular_classification": "Tabular Classification",
    "timeseries_forecasting": "Timeseries Forecasting",
    "image_segmentation": "Image Segmentation",
    "nlp": "Natural Language Processing",
}
EDGES = [0.5, 0.694, 0.695, 0.70, 0.7049, 0.84, 0.844999, 0.845, 0.8499, 0.85, 0.994, 0.995, 1.0]


def condition_lines(text: str, severity: str, level: str | None) -> list[tuple[str, str, str]]:
    lines = [("Message", "has", text), ("Severity", "=~", severity)]
    return lines if level is None else [*lines, ("SuspiciousLevel", "=~", level)]


def reported(task: str, analysis: str, probability: float, **more: Any) -> Row:
    """An event as a defence makes it: the fields of all, and those of one flagged input."""
    base = Event(
        raw_message=raw_message(task, analysis),
        service_name=service_name_of(task, analysis),
        asset_id=MODEL_ID,
        source_name="",
        probability=0.0,
        computer="gateway-1",
        model_id=MODEL_ID,
        job_id="job-1",
        defense_version="1.0",
        **more,
    ).fields()
    return {**base, **attack_rows([probability], ["192.0.2.7"])[0]}


class Wire:
    """Takes what the sender posts."""

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        self.records = json.loads(body)
        self.time_field = headers["time-generated-field"]
        assert headers["Log-Type"] == "AIShield"
        return Reply(200)


def by_data_collector(events: list[Row]) -> Table:
    wire = Wire()
    sender = DataCollector("ws-1", "a2V5", poster=wire)  # type: ignore[arg-type]
    assert sender.send(events).status == "accepted"
    return data_collector_table(wire.records, wire.time_field)


def by_rule(events: list[Row]) -> Table:
    template = json.loads((DEPLOY / "dcr.json").read_text())
    streams = template["resources"][0]["properties"]["streamDeclarations"]
    declared = {c["name"]: c["type"] for c in streams["Custom-AIShield_CL"]["columns"]}
    return ingested_table((row_of(event) for event in events), declared)


def cell_of(text: str) -> tuple[str, str]:
    """Task and analysis that a rule's text speaks of."""
    task = next(t for t, words in TASK_TEXTS.items() if text.lower().startswith(words.lower()))
    return task, "evasion" if "Evasion" in text else "extraction"


def all_events(probability: float) -> list[Row]:
    return [
        reported(task, analysis, probability)
        for task in TASK_TEXTS
        for analysis in ("extraction", "evasion")
    ]


@pytest.mark.parametrize("rule", PUBLISHED)
def test_published_rule_matches_its_events_and_no_others(rule: str) -> None:
    text, severity, level = PUBLISHED[rule]
    task, analysis = cell_of(text)
    for probability in EDGES:
        events = all_events(probability)
        met = matches(published_parser(by_rule(events)), condition_lines(text, severity, level))
        wanted = probability > 0.845 if severity == "High" else 0.695 < probability < 0.845
        if probability in {0.695, 0.845}:
            continue  # on the edge: whichever way it rounds is held in the tests of the bands
        assert [row["ServiceName"] for row in met] == (
            [service_name_of(task, analysis)] if wanted else []
        ), probability


@pytest.mark.parametrize("task", TASK_TEXTS)
@pytest.mark.parametrize("analysis", ["extraction", "evasion"])
@pytest.mark.parametrize(("probability", "pair"), [(0.93, HIGH), (0.77, LOW)])
def test_every_pair_of_task_and_analysis_has_the_published_wording(
    task: str, analysis: str, probability: float, pair: tuple[str, str]
) -> None:
    text = f"{TASK_TEXTS[task]} AI Model {analysis.title()} Attack Identified"
    table = published_parser(by_rule(all_events(probability)))
    met = matches(table, condition_lines(text, *pair))
    assert [row["ServiceName"] for row in met] == [service_name_of(task, analysis)]
    assert met[0]["SourceName"] == "192.0.2.7"
    assert met[0]["AssetId"] == MODEL_ID
    assert met[0]["Computer"] == "gateway-1"


def test_aggregate_event_matches_too() -> None:
    event = reported("image_classification", "extraction", 0.97, rows=5000)
    event["RawMessage"] += " (5000 inputs in one call)"
    rule = PUBLISHED["ImageClassficationModelExtractionHighSuspiciousVulnDetection"]
    assert len(matches(published_parser(by_rule([event])), condition_lines(*rule))) == 1


@pytest.mark.parametrize("way", [by_data_collector, by_rule])
def test_no_event_falls_between_the_bands(way: Any) -> None:
    # A detector answers in float32, whose 0.845 is not that of float64.
    fine = [*np.linspace(0.5, 1, 401), *np.linspace(0.69, 0.86, 171, dtype=np.float32)]
    given = [*EDGES, *(float(probability) for probability in fine)]
    pairs = {"High": HIGH[1], "Medium": LOW[1], "Low": ""}
    events = [reported("image_classification", "extraction", p) for p in given]
    for probability, row in zip(given, way(events).rows, strict=True):
        severity = published_severity(row["probability_d"])
        level = row.get("SuspiciousLevel") or row.get("SuspiciousLevel_s") or ""
        assert severity in pairs, f"{probability} fell between the bands"
        assert level == pairs[severity], probability


@pytest.mark.parametrize(
    ("probability", "severity"),
    [
        (0.6949, "Low"),
        (0.6951, "Medium"),
        (0.70, "Medium"),
        (0.8449, "Medium"),
        (0.8451, "High"),
        (0.8499, "High"),
        (0.85, "High"),
        (0.995, "High"),
        (1.0, "High"),
    ],
)
def test_bands_are_judged_at_two_decimals(probability: float, severity: str) -> None:
    row = row_of(reported("nlp", "extraction", probability))
    assert published_severity(row["probability_d"]) == severity


def test_data_collector_columns_are_those_that_the_published_parser_reads() -> None:
    table = by_data_collector([reported("nlp", "evasion", 0.9)])
    assert {
        "RawMessage_s", "service_name_s", "asset_id_s", "source_name_s", "probability_d",
        "attack_name_s", "timestamp_t", "SuspiciousLevel_s", "Computer", "event_id_s",
        "model_id_s", "job_id_s", "rows_d",
    } <= table.columns  # fmt: skip
    assert not {c for c in table.columns if c.endswith("_g")}, "a GUID would change its column"
    row = published_parser(table).rows[0]
    assert as_time(row["TimeGenerated"]) == as_time(row["EventTimestamp"])


@pytest.mark.parametrize("rule", [r for r, (_, _, level) in PUBLISHED.items() if level])
def test_published_level_rules_cannot_run_on_data_collector_tables(rule: str) -> None:
    # The Data Collector names the column SuspiciousLevel_s, and the published parser leaves it.
    table = published_parser(by_data_collector(all_events(0.9)))
    with pytest.raises(KqlError, match="SuspiciousLevel"):
        matches(table, condition_lines(*PUBLISHED[rule]))
    assert "`SuspiciousLevel_s`" in (DEPLOY.parents[1] / "docs" / "siem.md").read_text()


@pytest.mark.parametrize("rule", [r for r, (_, _, level) in PUBLISHED.items() if not level])
def test_published_rules_without_a_level_match_data_collector_tables(rule: str) -> None:
    text, severity, level = PUBLISHED[rule]
    table = published_parser(by_data_collector(all_events(0.9)))
    met = matches(table, condition_lines(text, severity, level))
    assert [row["ServiceName"] for row in met] == [service_name_of(*cell_of(text))]


@pytest.mark.parametrize("way", [by_data_collector, by_rule])
@pytest.mark.parametrize("rule", PUBLISHED)
def test_adapted_parser_serves_every_published_rule(rule: str, way: Any) -> None:
    text, severity, level = PUBLISHED[rule]
    table = adapted_parser(way(all_events(0.9 if severity == "High" else 0.8)))
    met = matches(table, condition_lines(text, severity, level))
    assert [row["ServiceName"] for row in met] == [service_name_of(*cell_of(text))]
    assert met[0]["AssetId"] == met[0]["ModelId"] == MODEL_ID


@pytest.mark.parametrize("way", [by_data_collector, by_rule])
def test_adapted_parser_shows_an_event_once(way: Any) -> None:
    event, other = (reported("nlp", "extraction", 0.9) for _ in range(2))
    table = way([event, other, event])
    assert len(table.rows) == 3
    ids = [row["EventId"] for row in adapted_parser(table).rows]
    assert ids == [event["event_id"], other["event_id"]]


@pytest.mark.parametrize("way", [by_data_collector, by_rule])
@pytest.mark.parametrize(("key", "severity"), [("high", "High"), ("low", "Medium"), ("", "Low")])
def test_our_rules_match_their_band_and_every_task(way: Any, key: str, severity: str) -> None:
    queries = json.loads((DEPLOY / "rules.json").read_text())["variables"]
    probability = {"High": 0.85, "Medium": 0.84, "Low": 0.69}[severity]
    table = adapted_parser(way(all_events(probability)))
    met = {name: matches(table, conditions_of(queries[name])) for name in ("high", "low")}
    assert {name: len(rows) for name, rows in met.items() if rows} == ({key: 10} if key else {})


def test_our_rules_leave_other_reports_alone() -> None:
    event = reported("nlp", "extraction", 0.9)
    table = adapted_parser(by_rule([{**event, "RawMessage": "Assessment finished"}]))
    queries = json.loads((DEPLOY / "rules.json").read_text())["variables"]
    assert matches(table, conditions_of(queries["high"])) == []
