"""Do the searches, the alerts and the dashboard in ``deploy/splunk`` fit the events?"""

import configparser
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from modelward.siem import Event, suspicious_level
from modelward.siem.splunk import SplunkCollector

APP = Path(__file__).parents[2] / "deploy" / "splunk" / "modelward"
FIELDS = set(
    Event(raw_message="", service_name="", asset_id="", source_name="", probability=0).fields()
)
OF_SPLUNK = {"_time", "_indextime", "index", "sourcetype"}
WORDS = {
    "as", "by", "and", "or", "stats", "where", "table", "sort", "dedup", "eval", "if", "isnull",
    "fields", "convert", "ctime", "fillnull", "value", "timechart", "min", "max", "sum", "count",
    "latest", "values", "dc", "now", "relative_time",
}  # fmt: skip
CONFS = ["app", "indexes", "macros", "props", "savedsearches"]


def conf(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        interpolation=None, strict=True, delimiters=("=",), comment_prefixes=("#",)
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((APP / "default" / f"{name}.conf").read_text(encoding="utf-8"))
    return parser


def dashboard() -> ElementTree.Element:
    return ElementTree.parse(APP / "default/data/ui/views/modelward.xml").getroot()


def searches() -> dict[str, str]:
    saved = conf("savedsearches")
    return {name: saved[name]["search"] for name in saved.sections()}


def foreign_names(search: str, known: set[str]) -> set[str]:
    """Names in a search that it neither makes nor knows."""
    bare = re.sub(r'"[^"]*"|`[^`]*`|\$\w+(\.\w+)?\$|=\s*\w+(?=\s*(\||$))', " ", search)
    made = set(re.findall(r"\bAS (\w+)", bare)) | set(re.findall(r"\beval (\w+)\s*=", bare))
    bare = re.sub(r"=\w+", " ", bare)
    names = set(re.findall(r"[A-Za-z_]\w*", bare))
    return {n for n in names - made - known - OF_SPLUNK if n.lower() not in WORDS}


@pytest.mark.parametrize("name", CONFS)
def test_conf_parses_and_names_each_stanza_once(name: str) -> None:
    assert conf(name).sections()


def test_no_conf_is_left_out_of_the_tests() -> None:
    assert {path.stem for path in (APP / "default").glob("*.conf")} == set(CONFS)


@pytest.mark.parametrize("path", sorted(APP.rglob("*.xml")), ids=lambda path: path.name)
def test_xml_is_well_formed(path: Path) -> None:
    ElementTree.parse(path)


def test_the_names_are_those_that_the_sender_sends() -> None:
    sender = SplunkCollector("https://splunk.example:8088", "token")
    sent = sender._wrapped({"timestamp": "2026-01-01T00:00:00.000Z"})
    assert sent["sourcetype"] in conf("props").sections()
    definition = conf("macros")["modelward_events"]["definition"]
    assert f"sourcetype={sent['sourcetype']}" in definition
    (index,) = conf("indexes").sections()
    assert f"index={index}" in definition


def test_a_long_message_is_not_cut() -> None:
    assert int(conf("props")["AIShield"]["TRUNCATE"]) > 32_000 * 2


@pytest.mark.parametrize("name", searches())
def test_saved_search_reads_only_fields_of_events(name: str) -> None:
    assert foreign_names(searches()[name], FIELDS) == set()


def test_the_check_of_fields_finds_a_wrong_one() -> None:
    assert foreign_names("`m` probabilty>0.5 | stats count AS n BY asset_id", FIELDS) == {
        "probabilty"
    }


def test_dashboard_reads_only_fields_of_events() -> None:
    root = dashboard()
    base = {s.get("id"): s.findtext("query") or "" for s in root.iter("search") if s.get("id")}
    assert base
    for search in root.iter("search"):
        query = search.findtext("query") or ""
        known = set(FIELDS)
        if search.get("base"):
            source = base[search.get("base")]
            known = set(re.search(r"\| fields ([\w ]+)", source)[1].split())  # type: ignore[index]
        else:
            assert query.startswith("`modelward_events`")
        assert foreign_names(query, known) == set(), query


def test_dashboard_counts_an_event_once() -> None:
    for search in dashboard().iter("search"):
        if search.get("id"):
            assert "| dedup event_id" in (search.findtext("query") or "")


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("Modelward - High suspicious attack", suspicious_level(0.9)),
        ("Modelward - Low suspicious attack", suspicious_level(0.75)),
    ],
)
def test_alert_watches_the_level_that_is_sent(name: str, level: str) -> None:
    assert f'SuspiciousLevel="{level}"' in searches()[name]


@pytest.mark.parametrize("name", [n for n in searches() if not n.endswith("Reports")])
def test_alert_sees_late_reports_once_in_every_window(name: str) -> None:
    stanza = conf("savedsearches")[name]
    assert "stats min(_indextime) AS arrived" in stanza["search"]
    assert "BY event_id" in stanza["search"]
    assert 'arrived >= relative_time(now(), "-15m@m")' in stanza["search"]
    assert 'arrived < relative_time(now(), "@m")' in stanza["search"]
    assert stanza["cron_schedule"] == "*/15 * * * *"
    assert stanza["enableSched"] == "1"
    assert (stanza["counttype"], stanza["relation"], stanza["quantity"]) == (
        "number of events", "greater than", "0",
    )  # fmt: skip


def test_flood_adds_the_inputs_of_aggregate_events() -> None:
    search = searches()["Modelward - Flood of attack queries"]
    assert "max(rows) AS rows BY event_id | stats sum(rows) AS inputs" in search
    assert "where inputs >= 500" in search
