"""Does ``docs/siem.md`` say what the code does?"""

import ast
import inspect
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelward.cli import app
from modelward.cli.siem import _LOGS
from modelward.defense.runtime import AISDefenseModel
from modelward.siem import CREDENTIALS, Delivery, Event, SplunkCollector, suspicious_level
from modelward.siem.delivery import CLOSE_SECONDS
from modelward.siem.sending import LONGEST_PAUSE
from modelward.siem.spool import DEAD_MOST
from modelward.siem.transport import LONGEST_FIELD, LONGEST_WISH, SLOW_RETRY_SECONDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "siem.md").read_text(encoding="utf-8")
FLAT = " ".join(TEXT.split())


def default_of(function: object, name: str) -> object:
    return inspect.signature(function).parameters[name].default  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("100,000 events", default_of(Delivery, "capacity") == 100_000),
        ("512 MiB", default_of(Delivery, "most_bytes") == 512 << 20),
        ("memory 10,000", default_of(Delivery, "memory") == 10_000),
        ("up to two seconds", CLOSE_SECONDS == 2),
        ("the newest 5,000 are kept", DEAD_MOST == 5_000),
        ("4 s ... 300 s", LONGEST_PAUSE == 300),
        ("an hour at most", LONGEST_WISH == 3600),
        ("at least 60 s", SLOW_RETRY_SECONDS == 60),
        ("it waits 60 s for that", default_of(SplunkCollector, "acknowledge_seconds") == 60),
        ("Texts above 32,000 bytes are cut", LONGEST_FIELD == 32_000),
        ("`min_probability` | 0.5", default_of(AISDefenseModel, "min_probability") == 0.5),
        ("`aggregate_above` | 100", default_of(AISDefenseModel, "aggregate_above") == 100),
        ("`high suspicious attack` from 0.85", suspicious_level(0.85).startswith("high")),
        ("`low suspicious attack` from 0.70", suspicious_level(0.70).startswith("low")),
    ],
)
def test_a_number_on_the_page_is_that_of_the_code(words: str, value: bool) -> None:
    assert words in FLAT
    assert value


def test_every_argument_and_every_field_is_described() -> None:
    arguments = set(inspect.signature(AISDefenseModel).parameters) - {"defense_model"}
    fields = Event(
        raw_message="", service_name="", asset_id="", source_name="", probability=0
    ).fields()
    described = set()
    for row in re.findall(r"^\| (`[^|]+) \|", TEXT, re.M):
        described |= set(re.findall(r"`(\w+)`", row))
    assert arguments | set(fields) <= described


def test_variables_are_those_that_are_read() -> None:
    named = set(re.findall(r"MODELWARD_[A-Z_]+[A-Z]", TEXT))
    of_service = {name for name in named if name.startswith("MODELWARD_SIEM_")}
    assert named - of_service == {*CREDENTIALS.values(), *_LOGS.values()}


def test_files_that_are_named_exist() -> None:
    named = set(re.findall(r"(?:deploy|benchmarks)/[\w./-]*\w", TEXT))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("command", ["sink", "test"])
def test_options_that_are_named_exist(command: str) -> None:
    shown = CliRunner().invoke(app, ["siem", command, "--help"], env={"COLUMNS": "200"}).output
    lines = re.findall(rf"modelward siem {command}( --[^\n`]*)", TEXT)
    for option in re.findall(r"--[a-z-]+", " ".join(lines)):
        assert option in shown


def test_python_on_the_page_compiles_and_calls_what_exists() -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) == 2
    known = set(inspect.signature(AISDefenseModel).parameters)
    for block in blocks:
        for node in ast.walk(ast.parse(inspect.cleandoc(block))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "AISDefenseModel":
                assert {keyword.arg for keyword in node.keywords} <= known
