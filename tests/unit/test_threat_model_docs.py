"""The tests that docs/threat-model.md leans on exist, and its settings and events are real."""

import re
from pathlib import Path

import pytest

from modelward.settings import Settings

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "docs" / "threat-model.md").read_text()
ACCESS = (ROOT / "docs" / "access.md").read_text()
FILES = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+\.py(?:::test_\w+)?)`", MODEL))))
def test_every_named_test_exists(name: str) -> None:
    file, _, test = name.partition("::")
    assert file in FILES
    if test:
        assert re.search(rf"^(async )?def {test}\(", FILES[file].read_text(), re.MULTILINE)


def test_settings_that_are_named_exist() -> None:
    table = ACCESS.split("## Limits")[1].split("Beyond a rate")[0]
    named = set(re.findall(r"`([a-z_]+)`", table))
    assert named and named <= set(Settings.model_fields)
    values = {name: field.default for name, field in Settings.model_fields.items() if name in named}
    assert values["failure_burst"] == 30 and values["header_max_bytes"] == 16 * 1024
    assert (values["address_requests_per_second"], values["address_burst"]) == (150, 300)


def test_events_that_are_named_are_written() -> None:
    listed = ACCESS.split("## Audit log")[1].split("An entry names")[0]
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+|download)`", listed))
    sources = "".join(path.read_text() for path in (ROOT / "src" / "modelward").rglob("*.py"))
    written = set(re.findall(r'"((?:organisation|key|model|upload|analysis|job|link|server|'
                             r'signing_key|audit)\.[a-z_]+|download)"', sources))  # fmt: skip
    files = {name for name in written if name.endswith((".keras", ".zip", ".html", ".lock"))}
    assert named == written - files
