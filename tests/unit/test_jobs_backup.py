"""Backups while the service writes, their way back, and what is refused."""

import io
import json
import sqlite3
import stat
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from job_world import JobWorld
from typer.testing import CliRunner

from modelward.cli import app
from modelward.domain import ConflictError, InvalidInputError, NotFoundError
from modelward.jobs import AssessmentService, make_backup, restore_backup
from modelward.jobs.backup import _copy_file
from modelward.settings import Settings


@pytest.fixture
def world(tmp_path: Path) -> JobWorld:
    made = JobWorld(tmp_path / "data")
    made.model = made.new_model(slots=("data", "model"))
    made.add("job-1")
    made.finish("job-1", files=("Vulnerability.json", "Vulnerability.pdf"))
    (made.data / "signing.key").write_bytes(b"k" * 32)
    (made.data / "server.lock").touch()
    return made


@pytest.mark.parametrize("name", ["backup", "backup.tar", "backup.tar.gz"])
def test_a_restored_folder_serves_the_finished_reports(
    world: JobWorld, tmp_path: Path, name: str
) -> None:
    made = make_backup(world.data, tmp_path / "kept" / name)
    assert made.files == 6
    mode = stat.S_IMODE((tmp_path / "kept" / name).stat().st_mode)
    assert mode == (0o700 if name == "backup" else 0o600)
    world.add("job-2")  # after the backup
    restored = restore_backup(tmp_path / "kept" / name, tmp_path / "new")
    assert (restored.files, restored.created) == (made.files, made.created)
    for path in (tmp_path / "new").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    # it belongs to the server of the other folder; looking at this one makes a new one
    assert not (tmp_path / "new" / "server.lock").exists()
    service = AssessmentService(Settings(data=tmp_path / "new"))
    found = service.download(world.organisation, "job-1", "Vulnerability", "3")
    assert found.blob is not None
    assert service.blobs.read(found.blob) == b"job-1 Vulnerability.json"
    assert service.status(world.organisation, "job-1")["JobState"] == "succeeded"
    with pytest.raises(NotFoundError, match="job_id"):
        service.status(world.organisation, "job-2")
    assert (tmp_path / "new" / "signing.key").read_bytes() == b"k" * 32


def test_backup_is_of_one_moment_while_the_service_writes(world: JobWorld, tmp_path: Path) -> None:
    stop, errors = threading.Event(), []

    def write() -> None:
        try:
            number = 2
            while not stop.is_set():
                model = world.new_model(slots=("data",))
                world.add(f"job-{number}", model_id=model)
                world.finish(f"job-{number}")
                number += 1
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            make_backup(world.data, tmp_path / f"b{number}")
    finally:
        stop.set()
        writer.join(30)
    assert not errors
    for number in range(5):
        restore_backup(tmp_path / f"b{number}", tmp_path / f"d{number}")
        copy = JobWorld(tmp_path / f"d{number}")
        with copy.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT blob, size FROM artifacts UNION SELECT blob, size FROM uploads"
            ).all()
        assert rows
        for blob, size in rows:
            assert copy.blobs.size(blob) == size


def test_files_that_vanish_meanwhile_are_no_part_of_the_backup(
    world: JobWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = world.new_model(slots=("data",))

    def copy(source: Path, target: Path) -> None:
        if gone in source.parts and source.exists():
            world.delete(gone)
        _copy_file(source, target)

    monkeypatch.setattr("modelward.jobs.backup._copy_file", copy)
    make_backup(world.data, tmp_path / "kept")
    names = json.loads((tmp_path / "kept" / "manifest.json").read_text())["files"]
    assert not [name for name in names if gone in name]
    assert len(names) == 6


def test_targets_that_would_do_harm_are_refused(world: JobWorld, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for target, words in (
        (tmp_path / "there", "exists already"),
        (world.data / "inside", "expected a place outside of the data folder"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            make_backup(world.data, target)
    with pytest.raises(InvalidInputError, match=r"holds no modelward\.db"):
        make_backup(tmp_path / "there", tmp_path / "x")
    kept = make_backup(world.data, tmp_path / "kept").path
    with pytest.raises(InvalidInputError, match="is not empty"):
        restore_backup(kept, world.data)
    with pytest.raises(NotFoundError, match="there is none"):
        restore_backup(tmp_path / "none", tmp_path / "y")


def test_altered_backups_are_refused_as_a_whole(world: JobWorld, tmp_path: Path) -> None:
    kept = make_backup(world.data, tmp_path / "kept").path
    key = kept / "signing.key"
    key.write_bytes(b"j" * 32)
    with pytest.raises(InvalidInputError, match=r"signing\.key as it was saved"):
        restore_backup(kept, tmp_path / "new")
    key.unlink()
    key.symlink_to("/etc/passwd")
    with pytest.raises(InvalidInputError, match=r"signing\.key as it was saved"):
        restore_backup(kept, tmp_path / "new")
    key.unlink()
    key.write_bytes(b"k" * 32)
    (kept / "extra").symlink_to("/etc")
    with pytest.raises(InvalidInputError, match="there is more"):
        restore_backup(kept, tmp_path / "new")
    (kept / "extra").unlink()
    (kept / "manifest.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="readable manifest"):
        restore_backup(kept, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new-*"))


def test_an_archive_cannot_write_outside(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("../outside")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(InvalidInputError, match="expected a tar file made by"):
        restore_backup(path, tmp_path / "sub" / "new")
    assert not (tmp_path / "sub" / "outside").exists()
    path.write_bytes(b"no archive at all")
    with pytest.raises(InvalidInputError, match="expected a tar file made by"):
        restore_backup(path, tmp_path / "new")


def test_commands(world: JobWorld, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return done.exit_code, done.stdout, done.stderr

    data = ("--data", world.data)
    code, text, _ = run("backup", tmp_path / "b.tar", *data)
    assert code == 0 and "6 files" in text
    code, _, problem = run("backup", tmp_path / "b.tar", *data)
    assert code == 2 and "expected a new file" in problem
    code, text, _ = run("restore", tmp_path / "b.tar", "--data", tmp_path / "new")
    assert code == 0 and "modelward serve --data" in text
    world.add("job-2")
    code, text, _ = run("jobs", "cancel", "job-2", *data)
    assert (code, world.jobs.get_unscoped("job-2").state) == (0, "cancelled")
    code, _, problem = run("jobs", "cancel", "job-1", *data)
    assert code == 2 and "it has ended" in problem
    code, text, _ = run("gc", "--older-than", "1h", "--dry-run", *data)
    assert code == 0 and text.startswith("Would remove ") and len(world.blobs.keys()) == 4
    for age in ("30", "d", "-1d", "30m"):
        code, _, problem = run("gc", f"--older-than={age}", *data)
        assert code == 2 and "an age such as 12h, 30d or 4w" in problem
    code, _, problem = run("gc", "--older-than", "1d", "--data", tmp_path / "nothing")
    assert code == 2 and "holds no modelward.db" in problem


def _command(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_a_damaged_database_is_no_backup(world: JobWorld, tmp_path: Path) -> None:
    world.database.close()
    path = world.data / "modelward.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'audit_log'"
        ).fetchone()[0]
    content = bytearray(path.read_bytes())
    content[4096 * (page - 1) : 4096 * page] = b"\xff" * 4096
    for damage in (bytes(content), b"no database".ljust(len(content), b"\0")):
        path.write_bytes(damage)
        code, text = _command("backup", tmp_path / "kept", "--data", world.data)
        assert code == 2 and "expected a sound SQLite file; it is damaged" in text
        assert str(path) in text
        assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_a_database_that_stays_locked_is_told(
    world: JobWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelward.jobs.backup._BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(world.data / "modelward.db")) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        world.database.close()
        other.execute("BEGIN EXCLUSIVE")
        code, text = _command("backup", tmp_path / "kept", "--data", world.data)
    assert code == 2 and "another process holds its lock" in text


def test_a_file_that_is_lost_is_named(world: JobWorld, tmp_path: Path) -> None:
    (world.data / "blobs" / "artifacts" / "job-1" / "Vulnerability.pdf").unlink()
    with pytest.raises(ConflictError, match=r"Vulnerability\.pdf is lost"):
        make_backup(world.data, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_damaged_archives_are_refused(world: JobWorld, tmp_path: Path, place: float) -> None:
    kept = make_backup(world.data, tmp_path / "kept.tgz").path
    content = bytearray(kept.read_bytes())
    start = int(len(content) * place)
    content[start : start + 64] = bytes(64)
    kept.write_bytes(content)
    code, text = _command("restore", kept, "--data", tmp_path / "new")
    assert code == 2 and text.startswith("backup")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "files", [[], 5, {"a": []}, {"a": {}}, {"../a": {"sha256": "0"}}, {"a\0": {"sha256": "0"}}]
)
def test_manifests_that_make_no_sense_are_refused(
    world: JobWorld, tmp_path: Path, files: object
) -> None:
    kept = make_backup(world.data, tmp_path / "kept").path
    manifest = json.loads((kept / "manifest.json").read_text())
    if isinstance(files, dict):
        files = manifest["files"] | files
    (kept / "manifest.json").write_text(json.dumps(manifest | {"files": files}))
    code, text = _command("restore", kept, "--data", tmp_path / "new")
    assert code == 2 and text.startswith("backup: expected")


def test_restore_fills_a_folder_that_cannot_be_replaced(world: JobWorld, tmp_path: Path) -> None:
    """A mount, or a link: the folder itself stays."""
    kept = make_backup(world.data, tmp_path / "kept.tar").path
    mount, link = tmp_path / "mount", tmp_path / "link"
    (mount / "lost+found").mkdir(parents=True)
    link.symlink_to(mount)
    number = mount.stat().st_ino
    restore_backup(kept, link)
    assert link.is_symlink() and mount.stat().st_ino == number
    assert JobWorld(link).jobs.get_unscoped("job-1").state == "succeeded"
    assert not list(mount.glob(".*"))
    with pytest.raises(InvalidInputError, match="is not empty"):
        restore_backup(kept, link)
    broken = tmp_path / "broken"
    broken.mkdir()
    kept.write_bytes(kept.read_bytes()[:-20_000])
    with pytest.raises(InvalidInputError, match="backup"):
        restore_backup(kept, broken)
    assert list(broken.iterdir()) == []
