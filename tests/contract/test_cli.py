"""`modelward serve` and `modelward org` as typed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import modelward.api
from modelward.cli import app
from modelward.cli.environment import OTHER_VARIABLES, unknown_variables


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Settings with which a server would have been started."""
    seen: list[Any] = []

    def run(settings: Any, **_: object) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(modelward.api, "run_server", run)
    return seen


def test_show_settings(served: list[Any], tmp_path: Path) -> None:
    config = tmp_path / "s.toml"
    config.write_text('ssl_keyfile_password = "hush"\nmax_jobs = 3\n')
    arguments = ["serve", "--show-settings", "--config", str(config), "--port", "0"]
    done = CliRunner().invoke(app, [*arguments, "--no-key-exchange"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert {"port = 0", "max_jobs = 3", "key_exchange = False", "host = 127.0.0.1"} <= set(lines)
    assert "hush" not in done.stdout
    assert served == []


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        ([], False),
        (["--host", "127.0.0.1"], False),
        (["--host", "0.0.0.0"], True),
        (["--host", "0.0.0.0", "--ssl-certfile", "c.pem"], False),
    ],
)
def test_open_address_without_tls_warns(
    served: list[Any], arguments: list[str], warned: bool
) -> None:
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exit_code == 0
    assert ("without TLS" in done.stderr) is warned
    assert len(served) == 1


def test_mistakes_exit_with_usage(served: list[Any], tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["serve", "--config", str(tmp_path / "none.toml")])
    assert missing.exit_code == 2
    assert "readable TOML" in missing.stderr


@pytest.mark.parametrize("arguments", [[], ["--show-settings"]])
def test_public_url_must_be_a_web_address(served: list[Any], arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["serve", "--public-url", "javascript:alert(1)", *arguments])
    assert done.exit_code == 2
    assert "public_url: " in done.stderr and "http or https" in done.stderr
    assert not served


def test_passwords_in_addresses_are_neither_taken_nor_shown(
    served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWARD_SIEM_SPLUNK_URL", "https://me:hush@splunk.example:8088")
    done = CliRunner().invoke(app, ["serve", "--show-settings"])
    assert done.exit_code == 2
    assert "siem_splunk_url: " in done.stderr
    assert "hush" not in done.output and not served


@pytest.mark.parametrize("arguments", [[], ["--show-settings"]])
def test_mistyped_variables_are_named(
    served: list[Any], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("MODELWARD_MAX_JOBZ", "hush")
    monkeypatch.setenv("MODELWARD_FLAVOUR", "hush")
    for name in ("MODELWARD_PORT", "MODELWARD_SANDBOX_PROCESSES", "MODELWARD_QUEUE_MAX_JOBS"):
        monkeypatch.setenv(name, "99")
    for name in OTHER_VARIABLES - {"MODELWARD_CONFIG"}:
        monkeypatch.setenv(name, "x")
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exit_code == 0
    warned = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    assert [line.split()[1] for line in warned] == ["MODELWARD_FLAVOUR:", "MODELWARD_MAX_JOBZ:"]
    assert "did you mean MODELWARD_MAX_JOBS?" in warned[1] and "--show-settings" in warned[0]
    assert "hush" not in done.output


def test_every_variable_that_the_product_names_is_known() -> None:
    """Also keeps the list honest: what nothing reads any more has no place in it."""
    root = Path(__file__).parents[2]
    texts = [root / "Makefile", root / "README.md", *(root / "docs").rglob("*.md"),
             *(root / "src").rglob("*.py"), *(root / "tests").rglob("*.py")]  # fmt: skip
    here = {Path(__file__), root / "src/modelward/cli/environment.py"}
    found = {
        name
        for path in texts
        if path not in here
        for name in re.findall(r"MODELWARD_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    assert len(found) > 25
    unknown = {line.partition(":")[0] for line in unknown_variables(found)}
    assert unknown == {"MODELWARD_TEST_SECRET"}  # stands for any secret in a test
    assert OTHER_VARIABLES <= found


def test_taken_port_says_so() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["serve", "--port", str(port)])
    assert done.exit_code == 2
    assert "--port 0 picks a free port" in done.stderr


def test_org_create_prints_the_secrets_once(tmp_path: Path) -> None:
    arguments = ["org", "create", "Acme", "--data", str(tmp_path / "data")]
    plain = CliRunner().invoke(app, arguments)
    assert plain.exit_code == 0
    assert "Organisation id: mwo-" in plain.stdout and "API key: mwk-" in plain.stdout
    made = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert set(made) == {"name", "org_id", "api_key"}
    assert made["org_id"] not in plain.stdout


def test_help_says_all_of_its_words() -> None:
    """Square brackets are markup there, and what stands in them is swallowed."""

    def texts(command: Any) -> Iterator[str]:
        yield from (parameter.help or "" for parameter in command.params
                    if hasattr(parameter, "help"))  # fmt: skip
        for inner in getattr(command, "commands", {}).values():
            yield from texts(inner)

    found = list(texts(get_command(app)))
    assert len(found) > 50
    assert [text for text in found if "[" in text] == []
