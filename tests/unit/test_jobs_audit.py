"""The audit log: its chain, what breaks it, and what the database refuses."""

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError
from typer.testing import CliRunner

from modelward.cli import app
from modelward.domain import UnauthenticatedError, UnavailableError
from modelward.jobs import RequestContext, acting
from modelward.jobs.audit import FIRST, AuditTrail, OpenedLinks, append, entries, verify
from modelward.jobs.database import Database

TRIGGERS = ("audit_log_no_update", "audit_log_no_delete", "audit_log_in_order")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path)
    database.migrate()
    return database


def fill(database: Database, number: int = 5) -> list[str]:
    trail = AuditTrail(database, Clock())
    return [
        trail.note("download", organisation=1, subject=f"job-{n}", detail={"n": n}).hash
        for n in range(number)
    ]


def tamper(folder: Path, *statements: str) -> None:
    """What somebody does who may write the file and knows the triggers."""
    with sqlite3.connect(folder / "modelward.db") as connection:
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)


def test_chain_holds_and_names_its_head(database: Database) -> None:
    with database.read() as connection:
        assert verify(connection).head == FIRST
    hashes = fill(database)
    with database.read() as connection:
        verdict = verify(connection)
    found = list(entries(database))
    assert verdict.intact and verdict.entries == 5 and verdict.head == hashes[-1]
    assert [entry.previous for entry in found] == [FIRST, *hashes[:-1]]
    assert [entry.seq for entry in found] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("statement", "broken", "reason"),
    [
        ("UPDATE audit_log SET subject = 'job-9' WHERE seq = 3", 3, "changed"),
        ("UPDATE audit_log SET detail = '{}' WHERE seq = 1", 1, "changed"),
        ("UPDATE audit_log SET organisation_id = NULL WHERE seq = 5", 5, "changed"),
        ("UPDATE audit_log SET time = time + 0.000001 WHERE seq = 2", 2, "changed"),
        ("UPDATE audit_log SET time = 'x' WHERE seq = 2", 2, "changed"),
        ("UPDATE audit_log SET hash = previous WHERE seq = 2", 2, "changed"),
        ("UPDATE audit_log SET previous = hash WHERE seq = 2", 2, "follow"),
        ("DELETE FROM audit_log WHERE seq = 3", 3, "removed"),
        ("DELETE FROM audit_log WHERE seq = 1", 1, "removed"),
    ],
)
def test_every_tampering_is_found_at_its_place(
    database: Database, tmp_path: Path, statement: str, broken: int, reason: str
) -> None:
    fill(database)
    database.close()
    tamper(tmp_path, statement)
    with Database(tmp_path).read() as connection:
        verdict = verify(connection)
    assert (verdict.intact, verdict.broken) == (False, broken)
    assert reason in verdict.reason


def test_a_cut_end_shows_only_against_a_kept_head(database: Database, tmp_path: Path) -> None:
    hashes = fill(database)
    with database.read() as connection:
        assert verify(connection, hashes[2]).intact
    database.close()
    tamper(tmp_path, "DELETE FROM audit_log WHERE seq > 3")
    with Database(tmp_path).read() as connection:
        assert verify(connection).intact
        assert verify(connection, hashes[2]).intact
        cut = verify(connection, hashes[4])
    assert not cut.intact and cut.broken == 4
    assert "cut or rewritten" in cut.reason


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET subject = 'x'",
        "DELETE FROM audit_log",
        "INSERT OR REPLACE INTO audit_log SELECT 2, time, event, organisation_id, actor, subject,"
        " request_id, address, detail, previous, hash FROM audit_log WHERE seq = 1",
        "INSERT INTO audit_log SELECT 9, time, event, organisation_id, actor, subject,"
        " request_id, address, detail, previous, hash FROM audit_log WHERE seq = 1",
        "UPDATE OR REPLACE audit_log SET seq = 1 WHERE seq = 2",
    ],
)
def test_the_database_refuses_changes(database: Database, statement: str) -> None:
    fill(database)
    with (
        pytest.raises(DatabaseError, match="append-only"),
        database.write() as connection,
    ):
        connection.exec_driver_sql(statement)
    with database.read() as connection:
        assert verify(connection).entries == 5


def test_entries_written_at_once_make_one_chain(database: Database) -> None:
    trail = AuditTrail(database, Clock())
    threads = [
        threading.Thread(target=lambda: [trail.note("download") for _ in range(10)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as connection:
        verdict = verify(connection)
    assert verdict.intact and verdict.entries == 80


def test_entry_and_change_are_one_transaction(database: Database) -> None:
    with pytest.raises(UnauthenticatedError, match="half way"), database.write() as connection:
        append(connection, "key.revoked", now=1.0)
        raise UnauthenticatedError("half way")
    with database.read() as connection:
        assert verify(connection).entries == 0


def test_refusals_cannot_fill_the_disk(database: Database) -> None:
    clock = Clock()
    trail = AuditTrail(database, clock)
    for _ in range(500):
        trail.refusal("key.refused", reason="x-api-key: unknown")
    trail.refusal("link.refused", reason="token: none")
    clock.now += 60
    trail.refusal("key.refused", reason="x-api-key: unknown")
    found = list(entries(database))
    assert len(found) == 30 + 1 + 1
    assert json.loads(found[-1].detail)["left_out_before"] == 470


def test_reading_goes_on_where_nothing_can_be_written(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    event.listen(database._engine, "connect", read_only)
    database.close()
    trail = AuditTrail(database, Clock())
    trail.note_reading("download", organisation=7, subject="job-1")
    trail.refusal("key.refused", reason="x")
    assert "not written: download, organisation 7, subject job-1" in caplog.text
    with pytest.raises(UnavailableError, match="writable"):
        trail.note("key.revoked")


def test_entries_name_who_and_hold_no_secrets(database: Database) -> None:
    secret = "mwk-" + "a" * 43
    context = RequestContext(request_id="req-1", address="192.0.2.7", actor="key-0011")
    with acting(context):
        AuditTrail(database, Clock()).note("download", detail={"text": f"{secret} token=abc.def"})
    entry = next(iter(entries(database)))
    assert (entry.request_id, entry.address, entry.actor) == ("req-1", "192.0.2.7", "key-0011")
    assert secret not in entry.detail and "abc.def" not in entry.detail


def test_texts_of_others_cannot_break_an_entry(database: Database, tmp_path: Path) -> None:
    """A label that looks like a secret and ends in a sign that JSON escapes."""
    label = 'token=s3cr3t"quoted'
    AuditTrail(database, Clock()).note(
        "key.created", detail={"label": label, "token": "s3cr3t", "more": [label, {"a": 1.5}]}
    )
    entry = next(iter(entries(database)))
    assert json.loads(entry.detail) == {
        "label": 'token=***"quoted',
        "token": "***",
        "more": ['token=***"quoted', {"a": 1.5}],
    }
    # entries of earlier versions may hold what is no JSON
    tamper(tmp_path, 'UPDATE audit_log SET detail = \'{"label": "token=***"x"}\'')
    code, text = run("audit", "show", "--json", "--data", str(tmp_path))
    assert code == 0 and json.loads(text)["detail"] == '{"label": "token=***"x"}'


def test_nobody_who_pages_slowly_holds_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelward.jobs.audit._PORTION", 2)
    hashes = fill(database)
    found = entries(database)
    seen = [next(found).hash]
    assert database._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    seen += [entry.hash for entry in found]
    assert seen == hashes
    assert [entry.seq for entry in entries(database, since=1_000_001.0)] == []


def test_the_printed_head_is_on_the_disk(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that a power cut takes would look like a log that was cut."""
    asked: list[bool] = []
    write = Database.write

    def watched(self: Database, *, durable: bool = False, wait_seconds: None = None) -> Any:
        asked.append(durable)
        return write(self, durable=durable, wait_seconds=wait_seconds)

    monkeypatch.setattr(Database, "write", watched)
    assert run("audit", "verify", "--data", str(tmp_path))[0] == 0
    assert asked == [True]


def test_a_page_that_refreshes_itself_is_noted_once_an_hour() -> None:
    clock = Clock()
    opened = OpenedLinks(clock)
    with acting(RequestContext(address="192.0.2.1")):
        assert [opened.first("job-1") for _ in range(3)] == [True, False, False]
        assert opened.first("job-2")
    with acting(RequestContext(address="192.0.2.2")):
        assert opened.first("job-1")
        clock.now += 3601
        assert opened.first("job-1")


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def test_commands_and_their_exit_codes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for command in ("verify", "show"):
        code, text = run("audit", command, "--data", str(data))
        assert code == 2 and "holds no modelward.db" in text
    assert not data.exists()
    run("org", "create", "Acme", "--data", str(data))
    code, text = run("audit", "verify", "--data", str(data))
    # organisation, key, and the entry about this verification
    assert code == 0 and "Intact: 3 entries" in text
    head = text.split("Head: ")[1].strip()
    code, text = run("audit", "verify", "--data", str(data), "--expect-head", head.upper())
    assert code == 0 and "Intact: 4 entries" in text
    code, text = run("audit", "show", "--json", "--data", str(data))
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == [
        "organisation.created", "key.created", "audit.verified", "audit.verified",
    ]  # fmt: skip
    assert lines[2]["hash"] == head
    assert all(line["actor"].startswith("cli") for line in lines)
    assert run("audit", "show", "--data", str(data), "--since", "2999-01-01")[1] == ""
    assert run("audit", "show", "--data", str(data), "--since", "soon")[0] == 2
    tamper(data, "UPDATE audit_log SET actor = 'nobody' WHERE seq = 2")
    code, text = run("audit", "verify", "--data", str(data))
    assert code == 1 and "Broken at entry 2" in text


def test_unreadable_logs_exit_with_3(tmp_path: Path) -> None:
    (tmp_path / "modelward.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 4000)
    assert run("audit", "verify", "--data", str(tmp_path))[0] == 3
    assert run("audit", "show", "--data", str(tmp_path))[0] == 3
    other = tmp_path / "other"
    other.mkdir()
    sqlite3.connect(other / "modelward.db").execute("CREATE TABLE t (n)").connection.close()
    code, text = run("audit", "verify", "--data", str(other))
    assert code == 3 and "has none" in text
