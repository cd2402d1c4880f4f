"""Data folders and what is made in them stay closed to others; places that cannot be one say so."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import modelward.api
import modelward.jobs.worker as worker_module
from modelward.cli import app
from modelward.domain import UnavailableError
from modelward.jobs import AssessmentService
from modelward.settings import Settings
from modelward.storage import make_folder, private_files, private_folder


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """That of most machines: new files are readable by everybody."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def umask_now() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value


def open_to_others(folder: Path) -> list[str]:
    return [str(path) for path in (folder, *folder.rglob("*")) if mode(path) & 0o077]


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def test_commands_make_private_files_and_close_a_folder_that_was_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    with caplog.at_level(logging.WARNING, "modelward.storage"):
        assert run("org", "create", "Acme", "--data", str(data))[0] == 0
    assert (data / "modelward.db").is_file()
    assert open_to_others(data) == []
    assert "mode 755" in caplog.text and "0700" in caplog.text
    assert umask_now() == 0o022


def test_service_makes_private_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    with private_files():
        service = AssessmentService(Settings(data=data))
        service.start()
        try:
            service.blobs.put_bytes("inputs/model/data/x.zip", b"x")
        finally:
            service.stop()
    names = {path.name for path in data.iterdir()}
    assert {"modelward.db", "blobs", "incoming", "logs", "signing.key"} <= names
    assert open_to_others(data) == []


def test_serve_and_worker_run_with_private_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def note(*_: Any, **__: Any) -> int:
        seen.append(umask_now())
        return 0

    monkeypatch.setattr(modelward.api, "run_server", note)
    monkeypatch.setattr(worker_module, "_work", note)
    monkeypatch.setattr(worker_module.signal, "signal", lambda *_: None)
    assert run("serve", "--data", str(tmp_path))[0] == 0
    assert worker_module.main(["--data", str(tmp_path), "--job", "job-1"]) == 0
    assert seen == [0o077, 0o077]
    assert umask_now() == 0o022


@pytest.mark.parametrize("sticky", [False, True])
def test_a_folder_of_other_things_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sticky: bool
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777 if sticky else 0o755)
    if not sticky:
        (shared / "index.html").write_text("hello")
    before = mode(shared)
    private_folder(shared)
    assert mode(shared) == before
    assert "holds nothing else" in caplog.text


@pytest.mark.parametrize(
    "place", ["file", "file/below", "loop/below", "dangling", "n" * 300, "/proc/nope"]
)
def test_places_that_cannot_be_a_data_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    data = tmp_path / place
    with pytest.raises(UnavailableError, match=r"data folder .*: expected a folder"):
        make_folder(data)
    for command in (
        ["org", "create", "n"], ["org", "list"], ["key", "list", "1"], ["signing-key", "rotate"],
        ["jobs", "cancel", "job-1"], ["gc", "--older-than", "1d"], ["serve", "--port", "0"],
    ):  # fmt: skip
        code, text = run(*command, "--data", str(data))
        assert code == 2, (command, text)
        assert "data folder" in text and "Traceback" not in text


@pytest.mark.parametrize("name", ["blobs", "incoming", "logs"])
def test_a_file_where_the_service_needs_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(UnavailableError, match=f"{name}: expected a folder"):
        service = AssessmentService(Settings(data=tmp_path))
        try:
            service.start()
        finally:
            service.stop()


@pytest.mark.parametrize(
    "command",
    [
        ["org", "list"],
        ["key", "list", "1"],
        ["key", "create", "1", "--label", "x"],
        ["key", "revoke", "1", "k"],
        ["key", "rotate", "1", "k"],
        ["signing-key", "rotate"],
        ["jobs", "cancel", "job-1"],
        ["gc", "--older-than", "1d"],
    ],
)
def test_a_missing_data_folder_is_refused_and_not_made(tmp_path: Path, command: list[str]) -> None:
    code, text = run(*command, "--data", str(tmp_path / "data"))
    assert code == 2
    assert "data folder" in text and "modelward serve" in text
    assert list(tmp_path.iterdir()) == []


def test_corrupt_database_is_explained(tmp_path: Path) -> None:
    (tmp_path / "modelward.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 4000)
    code, text = run("org", "list", "--data", str(tmp_path))
    assert code == 2
    assert "expected a sound SQLite file" in text
