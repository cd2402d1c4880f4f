"""A full, locked, read-only or damaged data folder: clear answers, nothing lost, recovery."""

import ctypes
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from obstore.exceptions import GenericError
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from starlette.testclient import TestClient
from typer.testing import CliRunner

from modelward.api import create_app
from modelward.cli import app as commands
from modelward.domain import (
    AnalysisType,
    StorageFullError,
    TaskType,
    UnavailableError,
    UploadDialect,
)
from modelward.jobs import AssessmentService
from modelward.jobs.database import Database
from modelward.settings import Settings
from modelward.storage import BlobStore, disk_errors

BASE = "/api/ais/v1.5"
FULL = GenericError("Generic LocalFileSystem error: ... No space left on device (os error 28)")


class Service:
    """The app in this process, with one organisation."""

    def __init__(self, data: Path) -> None:
        self.app = create_app(
            Settings(
                data=data, database_wait_seconds=0.2, requests_per_second=1e4, request_burst=1000
            )
        )
        self.service: AssessmentService = self.app.state.service
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def __enter__(self) -> "Service":
        self.client.__enter__()
        made = self.service.tenants.create("a")
        self.headers = {"Org-Id": made.organisation_id, "x-api-key": made.api_key}
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__()

    def register(self) -> httpx.Response:
        body = {"task_type": "IC", "analysis_type": "MEA"}
        return self.client.post(
            f"{BASE}/model_registration/upload", json=body, headers=self.headers
        )

    def upload(self, url: str) -> httpx.Response:
        import io
        import zipfile

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("x.png", b"x" * 100)
        return self.client.put(url, content=buffer.getvalue())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "data") as running:
        yield running


def _assert_explained(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert words in body["message"]
    assert body["request_id"] == answer.headers["x-request-id"]


def test_full_disk_while_a_file_is_stored(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = service.register().json()["data"]["urls"]["data_upload_url"]
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise FULL

        patched.setattr("modelward.storage.blobs.obstore.put", full)
        answer = service.upload(url)
        _assert_explained(answer, 507, "the disk is full")
        assert int(answer.headers["retry-after"]) > 0
    assert not list((service.service.settings.data / "incoming").iterdir())
    assert service.upload(url).status_code == 200


def test_full_disk_while_a_body_arrives(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    url = service.register().json()["data"]["urls"]["data_upload_url"]

    class Full:
        def write(self, _content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        close = flush

    with monkeypatch.context() as patched:
        patched.setattr("modelward.api.body._Spool.__init__", _spool_on(Full()))
        _assert_explained(service.upload(url), 507, "the disk is full")
    assert service.upload(url).status_code == 200


def _spool_on(file: Any) -> Any:
    def make(self: Any, _path: Path, limit: int) -> None:
        self._file, self._limit, self._pending, self.size = file, limit, bytearray(), 0

    return make


def test_full_disk_under_the_database(service: Service) -> None:
    """SQLite itself refuses: no page may be added."""
    database = service.service._database

    def cap(connection: Any, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(database._engine, "checkout", cap)
    answers = [service.register() for _ in range(400)]
    full = [answer for answer in answers if answer.status_code != 200]
    assert full and {answer.status_code for answer in full} == {507}
    _assert_explained(full[0], 507, "database: expected space")
    made = answers[0].json()["data"]["model_id"]
    assert service.service._registrations.get_unscoped(made).id == made  # reading goes on
    event.remove(database._engine, "checkout", cap)
    with database.write() as connection:  # the limit stays with its connection
        connection.exec_driver_sql("SELECT 1")
    database.close()
    assert service.register().status_code == 200


def test_locked_database(service: Service) -> None:
    made = service.register().json()["data"]["model_id"]
    path = service.service.settings.data / "modelward.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = service.register()
        _assert_explained(answer, 503, "another process holds its lock")
        assert int(answer.headers["retry-after"]) > 0
        # readers do not wait for a writer
        answer = service.client.get(
            f"{BASE}/job_status_detailed", params={"job_id": "job-0"}, headers=service.headers
        )
        assert answer.status_code == 404
    assert service.register().status_code == 200
    assert service.service._registrations.get_unscoped(made).id == made


def test_a_locked_database_is_asked_once_for_the_use_of_a_key(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try waits for the lock, and would hold up every status call of the key."""
    asked = []
    write = Database.write

    def watched(self: Database, *, wait_seconds: float) -> Any:
        asked.append(wait_seconds)
        return write(self, wait_seconds=0.05)

    monkeypatch.setattr(Database, "write", watched)
    path = service.service.settings.data / "modelward.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            answer = service.client.get(
                f"{BASE}/job_status_detailed", params={"job_id": "job-0"}, headers=service.headers
            )
            assert answer.status_code == 404
    assert asked == [1.0]


def test_errors_of_the_database_repeat_no_values(service: Service) -> None:
    """They reach the log, and requests may hold what their sender keeps secret."""
    with pytest.raises(IntegrityError) as seen:
        service.service._registrations.add(
            77, TaskType.IMAGE_CLASSIFICATION, AnalysisType.EXTRACTION, UploadDialect.PUT
        )
    assert "INSERT INTO registrations" in str(seen.value)
    assert "image_classification" not in str(seen.value)


def test_uploads_leave_room_for_reports(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    url = service.register().json()["data"]["urls"]["data_upload_url"]
    reserve = service.service.settings.disk_reserve_bytes
    free = [reserve + 1000]
    monkeypatch.setattr(
        "modelward.jobs.uploads.shutil.disk_usage", lambda _: SimpleNamespace(free=free[0])
    )
    assert service.upload(url).status_code == 200
    incoming = service.service.settings.data / "incoming"
    for left in (reserve + 10, 0):  # too little for this one; none at all
        free[0] = left
        answer = service.upload(url)
        _assert_explained(answer, 507, "256 are kept for reports (disk_reserve_bytes)")
        assert int(answer.headers["retry-after"]) > 0
        assert not list(incoming.iterdir())


def test_uploads_of_unknown_size_stop_at_the_reserve(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = service.register().json()["data"]["urls"]["data_upload_url"]
    left = iter([2**40, 0])
    monkeypatch.setattr(
        "modelward.jobs.uploads.shutil.disk_usage", lambda _: SimpleNamespace(free=next(left))
    )
    monkeypatch.setattr("modelward.api.body._LOOK", 1000)

    def body() -> Iterator[bytes]:
        yield from [b"PK" + bytes(1498), bytes(1500), bytes(1500), bytes(1500)]

    _assert_explained(service.client.put(url, content=body()), 507, "disk_reserve_bytes")
    assert next(left, None) is None


def test_database_that_is_damaged_while_it_is_used(service: Service) -> None:
    service.service._database.close()  # no page of it is in memory any more
    path = service.service.settings.data / "modelward.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(b"no database".ljust(path.stat().st_size, b"\0"))
    _assert_explained(service.register(), 503, "modelward restore")


@pytest.mark.parametrize("damage", ["header", "page"])
def test_serve_refuses_a_damaged_database(tmp_path: Path, damage: str) -> None:
    data = tmp_path / "data"
    with Service(data) as running:
        for _ in range(50):
            running.register()
    path = data / "modelward.db"
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[:64] = b"\0" * 64
    else:
        content[4096 : 4096 * 8] = b"\xff" * (4096 * 7)
    path.write_bytes(content)
    done = CliRunner().invoke(commands, ["serve", "--data", str(data), "--port", "0"])
    assert done.exit_code == 2
    assert "expected a sound SQLite file; it is damaged" in done.stderr
    assert "modelward restore" in done.stderr and "Traceback" not in done.stderr


def _obey_permissions() -> None:
    """In the child, before it starts: root keeps its name, but no right to pass over modes."""
    libc = ctypes.CDLL(None, use_errno=True)
    drop_from_bounding_set, dac_override = 24, 1
    if os.geteuid() == 0 and libc.prctl(drop_from_bounding_set, dac_override, 0, 0, 0):
        os._exit(77)


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("org", "list")])
def test_a_schema_of_a_newer_version_is_told(tmp_path: Path, command: tuple[str, ...]) -> None:
    Database(tmp_path).migrate()
    with closing(sqlite3.connect(tmp_path / "modelward.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done = CliRunner().invoke(commands, [*command, "--data", str(tmp_path)])
    assert done.exit_code == 2, done.output
    assert "9999" in done.stderr and "A newer version made it" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_refuses_a_read_only_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o555)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from modelward.cli import app; app()"),
                *("serve", "--data", str(data), "--port", "0"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            preexec_fn=_obey_permissions,
        )
    finally:
        data.chmod(0o755)
    if done.returncode == 77:
        pytest.skip("root, and not allowed to give up a right")
    assert done.returncode == 2, done.stderr
    assert "expected to be writable" in done.stderr and "Traceback" not in done.stderr


def test_serve_refuses_a_folder_that_another_server_uses(service: Service) -> None:
    data = str(service.service.settings.data)
    done = CliRunner().invoke(commands, ["serve", "--data", data, "--port", "0"])
    assert done.exit_code == 2
    assert "another server uses it" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["server.lock", "migrate.lock", "signing.key"])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "data" / name).mkdir(parents=True)
    data = str(tmp_path / "data")
    done = CliRunner().invoke(commands, ["serve", "--data", data, "--port", "0"])
    assert done.exit_code == 2, done.output
    assert "got a folder. Move it away" in done.stderr and name in done.stderr
    assert "Traceback" not in done.stderr
    if name == "migrate.lock":
        done = CliRunner().invoke(commands, ["org", "create", "a", "--data", data])
        assert done.exit_code == 2 and "got a folder. Move it away" in done.stderr


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("x")
    done = CliRunner().invoke(commands, ["serve", "--data", str(path), "--port", "0"])
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr and str(path) in done.stderr


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "x"), StorageFullError),
        (OSError(errno.EDQUOT, "x"), StorageFullError),
        (OSError(errno.EFBIG, "x"), StorageFullError),
        (FULL, StorageFullError),
        (OSError(errno.EROFS, "x"), UnavailableError),
        (PermissionError(errno.EACCES, "x"), UnavailableError),
        (OSError(errno.EIO, "x"), UnavailableError),
        (FileNotFoundError(errno.ENOENT, "x"), FileNotFoundError),
        (ConnectionResetError(errno.ECONNRESET, "x"), ConnectionResetError),
    ],
)
def test_only_trouble_with_the_disk_is_called_so(
    error: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as seen, disk_errors():
        raise error
    assert type(seen.value) is expected


def test_a_real_limit_on_file_sizes_is_told_apart(tmp_path: Path) -> None:
    """The whole way through obstore and the operating system, in a process of its own."""
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from modelward.storage import BlobStore; from modelward.domain import StorageFullError\n"
        "store = BlobStore(Path(sys.argv[1])); store.put_bytes('a', b'1' * 100)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: store.put_bytes('b', b'1' * 5000)\n"
        "except StorageFullError: print('full', store.keys(), store.read('a') == b'1' * 100)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "blobs")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split("\n")[0] == "full ['a'] True", done.stderr
    assert BlobStore(tmp_path / "blobs").read("a") == b"1" * 100
