"""Settings: defaults < file < environment < flags."""

from pathlib import Path

import pytest

from modelward.domain import InvalidInputError
from modelward.settings import Settings, load_settings, show_settings


def test_order_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "MAX_JOBS", "HOST", "CONFIG"):
        monkeypatch.delenv(f"MODELWARD_{name}", raising=False)
    path = tmp_path / "settings.toml"
    path.write_text('port = 1\nmax_jobs = 2\nhost = "127.0.0.2"\n')
    assert load_settings().port == 8000
    assert load_settings(path).port == 1
    monkeypatch.setenv("MODELWARD_PORT", "3")
    monkeypatch.setenv("MODELWARD_MAX_JOBS", "4")
    assert (load_settings(path).port, load_settings(path).max_jobs) == (3, 4)
    effective = load_settings(path, port=5, max_jobs=None)
    assert (effective.port, effective.max_jobs, effective.host) == (5, 4, "127.0.0.2")
    monkeypatch.setenv("MODELWARD_CONFIG", str(path))
    assert load_settings().host == "127.0.0.2"


def test_the_data_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODELWARD_DATA", raising=False)
    assert Settings().data == tmp_path / "modelward-data"
    assert load_settings(data=Path("here")).data == tmp_path / "here"


def test_no_file_is_picked_up_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("modelward.toml", "settings.toml", "pyproject.toml"):
        (tmp_path / name).write_text("port = 1\n[tool.modelward]\nport = 1\n")
    (tmp_path / ".env").write_text("MODELWARD_PORT=1\n")
    monkeypatch.delenv("MODELWARD_PORT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "prot: expected the name of a setting, .* did you mean port"),
        ('port = "x"', "port"),
        ("port = 99999", "port"),
        ("port", "TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=words):
        load_settings(path)
    with pytest.raises(InvalidInputError, match="readable TOML file"):
        load_settings(tmp_path / "missing.toml")


def test_shown_settings_hide_secrets() -> None:
    text = show_settings(Settings(ssl_keyfile_password="hush", port=1234))
    assert "hush" not in text
    assert "port = 1234" in text


def test_links_start_at_the_public_url() -> None:
    assert Settings(port=5).base_url == "http://127.0.0.1:5"
    assert Settings(host="::1", port=5).base_url == "http://[::1]:5"
    assert Settings(public_url="https://a.example/prod/").base_url == "https://a.example/prod"
    assert Settings(ssl_certfile=Path("c.pem"), port=5).base_url == "https://127.0.0.1:5"


def test_lists_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWARD_TRUSTED_PROXIES", "10.0.0.1, 10.1.0.0/16")
    monkeypatch.setenv("MODELWARD_OUTBOUND_ALLOW", '["10.0.0.0/8"]')
    monkeypatch.setenv("MODELWARD_SANDBOX_INTERPRETERS", "/a:/b")
    read = load_settings()
    assert read.trusted_proxies == ("10.0.0.1", "10.1.0.0/16")
    assert read.outbound_allow == ("10.0.0.0/8",)
    assert read.sandbox.interpreters == (Path("/a"), Path("/b"))
    monkeypatch.setenv("MODELWARD_OUTBOUND_ALLOW", '["10')
    with pytest.raises(InvalidInputError, match=r"outbound_allow: Value error, .*got '\[\"10'"):
        load_settings()


@pytest.mark.parametrize(
    "given",
    ["javascript:alert(1)", "ftp://ward.example", "ward.example", "//ward.example", "https://",
     "https:///path", "https://:8000", "https://ward.example:x", "https://ward.example:70000",
     "https://[::1", "https://ward.example/a b", "https://ward.example/\n", "https://w\\ard.example",
     'https://ward.example/"', "https://ward.example/?a=b", "https://ward.example/#a",
     "https://me:hush@ward.example"],
)  # fmt: skip
def test_links_start_only_at_a_web_address(given: str) -> None:
    with pytest.raises(InvalidInputError, match=r"public_url: .*expected an address") as caught:
        load_settings(public_url=given)
    assert "ward.example" not in caught.value.message and "hush" not in caught.value.message


@pytest.mark.parametrize(
    "given", ["http://127.0.0.1:8000", "https://[::1]:8443/", "HTTPS://ward.example/prod/", ""]
)
def test_web_addresses_are_taken_as_they_are(given: str) -> None:
    assert load_settings(public_url=given).public_url == given


@pytest.mark.parametrize(
    "name", ["siem_splunk_url", "siem_azure_log_endpoint", "siem_sentinel_endpoint", "public_url"]
)
@pytest.mark.parametrize(
    "given", ["https://me:hush@h.example:8088", "https://me:hu/sh@h.example", "me:hush@h.example",
              "https://h.example/?token=hush", "https://h.example/#hush"],
)  # fmt: skip
def test_addresses_carry_no_credentials(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str
) -> None:
    monkeypatch.setenv(f"MODELWARD_{name.upper()}", given)
    with pytest.raises(InvalidInputError, match=rf"{name}: .*without user name") as caught:
        load_settings()
    assert "h.example" not in caught.value.message and "hu" not in caught.value.message
