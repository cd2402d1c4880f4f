"""The spool's file: its tables, and the statements that need no object."""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "SpoolBusy",
    "checkpoint",
    "connected",
    "counted",
    "expanded",
    "forget",
    "leases_void",
    "occupied",
]

SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, sinks TEXT NOT NULL, size INTEGER NOT NULL,
    body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pending (
    sink TEXT NOT NULL, seq INTEGER NOT NULL, owner TEXT, lease_until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (sink, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pending_seq ON pending (seq);
CREATE TABLE IF NOT EXISTS dead (
    event_id TEXT NOT NULL, sink TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (event_id, sink));
"""
LEAST_PAGES = 64
LOG_BYTES, LOG_MOST_BYTES = 1 << 20, 16 << 20
"""Size of the write-ahead log from which it is brought in, and from which writers wait for that."""


class SpoolBusy(Exception):
    """The spool cannot take this now: locked, full or broken; the reason is the message."""

    def __init__(self, message: str, *, locked: bool = False) -> None:
        super().__init__(message)
        self.locked = locked
        """Whether only someone else's lock stood in the way."""


def connected(path: Path | None, most_bytes: int) -> sqlite3.Connection:
    """Open a spool, and make it where it is missing.

    Args:
        path: The file; None for one in memory.
        most_bytes: About the size from which nothing more is put in.

    Raises:
        OSError: Folder or file cannot be made.
        sqlite3.Error: It is no spool, or another process keeps it locked.
    """
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except ValueError as error:
            raise OSError(str(error)) from None
    db = sqlite3.connect(
        ":memory:" if path is None else str(path),
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        # Only the background brings the log in: a prediction never waits for the disk.
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        page = db.execute("PRAGMA page_size").fetchone()[0]
        # Twice what may be put in: in a full spool calls still become events, and get sent.
        db.execute(f"PRAGMA max_page_count={max(LEAST_PAGES, 2 * most_bytes // page)}")
        db.executescript(SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def checkpoint(db: sqlite3.Connection, path: Path) -> None:
    """Bring the write-ahead log into the file where it has grown."""
    size = os.stat(f"{path}-wal").st_size
    if size < LOG_BYTES:
        return
    mode = "PASSIVE" if size < LOG_MOST_BYTES else "TRUNCATE"
    db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    # The first write into an emptied log waits for the disk: let it be this one.
    db.execute("PRAGMA user_version=1")


def occupied(db: sqlite3.Connection) -> int:
    """Bytes in use."""
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def counted(db: sqlite3.Connection, sinks: Sequence[str]) -> tuple[int, int]:
    """Calls that wait, and events in them and beside them.

    Args:
        db: The spool.
        sinks: Count what one of these lacks: what waits for a sink that is no longer in use must
            not keep others from being told. All events where there are none.
    """
    calls, size = db.execute("SELECT COUNT(*), TOTAL(size) FROM inbox").fetchone()
    if sinks:
        question = "SELECT COUNT(*) FROM pending WHERE sink = ?"
        events = max(db.execute(question, (sink,)).fetchone()[0] for sink in sinks)
    else:
        events = db.execute("SELECT COUNT(*) FROM events").fetchone()[0]
    return int(calls), int(size) + int(events)


def forget(db: sqlite3.Connection, sink: str, seqs: Sequence[int]) -> int:
    """Strike events off a sink's list, and from the spool where no sink waits for them.

    Returns:
        How many left the spool.
    """
    db.executemany("DELETE FROM pending WHERE sink = ? AND seq = ?", [(sink, s) for s in seqs])
    return db.executemany(
        "DELETE FROM events WHERE seq = ? AND NOT EXISTS (SELECT 1 FROM pending WHERE seq = ?)",
        [(s, s) for s in seqs],
    ).rowcount


def leases_void(db: sqlite3.Connection, sink: str, now: float, own: str) -> list[str]:
    """Owners whose leases do not count: this one, and processes that have ended."""
    owners = db.execute(
        "SELECT DISTINCT owner FROM pending WHERE sink = ? AND lease_until > ?", (sink, now)
    ).fetchall()
    return [owner for (owner,) in owners if owner == own or ended(owner)]


def expanded(body: str) -> Iterator[dict[str, Any]]:
    """The events of one call."""
    call = json.loads(body)
    base = call["base"]
    for row in call["rows"]:
        yield {**base, **row}


def ended(owner: str | None) -> bool:
    """Whether a leasing process of this host is gone."""
    host, _, rest = (owner or "").rpartition(":")[0].rpartition(":")
    # On Windows this signal would interrupt the process instead of asking for it.
    if host != socket.gethostname() or not rest.isdigit() or os.name == "nt":
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
