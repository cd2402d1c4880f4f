"""Events on disk until every SIEM has them."""

import contextlib
import json
import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Spool", "SpoolBusy"]

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, sinks TEXT NOT NULL, size INTEGER NOT NULL,
    body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pending (
    sink TEXT NOT NULL, seq INTEGER NOT NULL, owner TEXT, lease_until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (sink, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead (
    event_id TEXT NOT NULL, sink TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (event_id, sink));
"""
LEASE_SECONDS = 120.0
"""How long a process may take to send what it has taken; longer than any timeout of a sink."""
LOCK_SECONDS = 0.0005
"""Longest wait of a prediction for the spool."""
PATIENCE_SECONDS = 5.0
"""Longest wait of the background threads for another process."""
INBOX_ROWS = 20
LARGE_LOG = 4 << 20
"""Size of the write-ahead log from which ``settle`` writes it back."""


class SpoolBusy(Exception):
    """The spool cannot take this now: locked, full or broken; the reason is the message."""


class Spool:
    """SQLite file that several processes may share.

    Writers put whole calls into ``inbox``, which costs one row; ``absorb`` makes single events of
    them, each pending for its sinks. An event leaves when no sink waits for it. Write-ahead log
    with ``synchronous=NORMAL``: what is committed survives the death of the process.

    Args:
        path: The file; its folder is made.
        most_bytes: Largest size of the file.
        clock: Seconds since 1970, for leases.

    Raises:
        SpoolBusy: The file cannot be opened or is no spool.
    """

    def __init__(
        self,
        path: Path,
        *,
        most_bytes: int = 512 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.lock = threading.Lock()
        self._clock = clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            # Nobody but absorb() checkpoints: a prediction never waits for the disk.
            self._db = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
            self._patiently(lambda: self._prepare(most_bytes))
        except (OSError, sqlite3.Error) as error:
            raise SpoolBusy(f"{path}: {error}") from None
        self._stored = 0
        with contextlib.suppress(SpoolBusy):
            self.absorb()

    def _prepare(self, most_bytes: int) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint=0")
        page = self._db.execute("PRAGMA page_size").fetchone()[0]
        self._db.execute(f"PRAGMA max_page_count={max(32, most_bytes // page)}")
        self._db.executescript(SCHEMA)

    @property
    def stored(self) -> int:
        """Events on disk: as last counted, and those put in since."""
        return self._stored

    def put(self, sinks: Sequence[str], size: int, body: str) -> None:
        """Store one call's events; waits at most half a millisecond.

        Args:
            sinks: Names of the sinks that want them.
            size: How many events the body stands for.
            body: JSON ``{"base": fields, "rows": [fields that differ, ...]}``.

        Raises:
            SpoolBusy: It did not work out in that time, or the disk is full.
        """
        if not self.lock.acquire(timeout=LOCK_SECONDS):
            raise SpoolBusy("locked by a thread of this process")
        try:
            end = time.perf_counter() + LOCK_SECONDS
            while True:
                try:
                    self._db.execute(
                        "INSERT INTO inbox (sinks, size, body) VALUES (?, ?, ?)",
                        (json.dumps(list(sinks)), size, body),
                    )
                    break
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.perf_counter() >= end:
                        raise
                    time.sleep(0.0001)
            self._stored += size
        except sqlite3.Error as error:
            raise SpoolBusy(str(error)) from None
        finally:
            self.lock.release()

    def absorb(self) -> int:
        """Make single events of waiting calls, and count what is stored.

        Returns:
            How many calls are still waiting.

        Raises:
            SpoolBusy: Another process kept the lock for seconds, or the disk is full.
        """

        def step() -> int:
            with self._transaction() as db:
                rows = db.execute(
                    "SELECT seq, sinks, body FROM inbox ORDER BY seq LIMIT ?", (INBOX_ROWS,)
                ).fetchall()
                for seq, sinks, body in rows:
                    for fields in expanded(body):
                        self._add(db, json.loads(sinks), fields)
                    db.execute("DELETE FROM inbox WHERE seq = ?", (seq,))
                waiting = db.execute("SELECT COUNT(*), TOTAL(size) FROM inbox").fetchone()
                events = db.execute("SELECT COUNT(*) FROM events").fetchone()[0]
                self._stored = int(waiting[1]) + int(events)
                return int(waiting[0])

        left = self._guarded(step)
        if not left:
            with contextlib.suppress(SpoolBusy):
                self._guarded(lambda: self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone())
        return left

    def settle(self) -> None:
        """Write a large log back into the file: it would grow while nobody absorbs.

        On a connection of its own, so that no prediction waits for the disk.
        """
        with contextlib.suppress(OSError, sqlite3.Error):
            if os.stat(f"{self.path}-wal").st_size < LARGE_LOG:
                return
            with contextlib.closing(sqlite3.connect(self.path, timeout=0)) as db:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _add(self, db: sqlite3.Connection, sinks: list[str], fields: dict[str, Any]) -> None:
        text = json.dumps(fields, ensure_ascii=False)
        added = db.execute(
            "INSERT OR IGNORE INTO events (event_id, body) VALUES (?, ?)",
            (str(fields.get("event_id")), text),
        )
        if added.rowcount:
            db.executemany(
                "INSERT OR IGNORE INTO pending (sink, seq) VALUES (?, ?)",
                [(sink, added.lastrowid) for sink in sinks],
            )

    def take(self, sink: str, most: int) -> list[tuple[int, dict[str, Any]]]:
        """Lease the oldest events of a sink, so that no other process sends them meanwhile.

        Leases of processes of this host that have ended are void.

        Returns:
            (sequence number, fields) of up to ``most`` events.
        """
        now = self._clock()

        def step() -> list[tuple[int, dict[str, Any]]]:
            with self._transaction() as db:
                owners = db.execute(
                    "SELECT DISTINCT owner FROM pending WHERE sink = ? AND lease_until > ?",
                    (sink, now),
                ).fetchall()
                void = [owner for (owner,) in owners if owner == self.owner or ended(owner)]
                rows = db.execute(
                    "SELECT p.seq, e.body FROM pending p JOIN events e ON e.seq = p.seq "
                    "WHERE p.sink = ? AND (p.lease_until <= ? "
                    "OR p.owner IN (SELECT value FROM json_each(?))) ORDER BY p.seq LIMIT ?",
                    (sink, now, json.dumps(void), most),
                ).fetchall()
                db.executemany(
                    "UPDATE pending SET owner = ?, lease_until = ? WHERE sink = ? AND seq = ?",
                    [(self.owner, now + LEASE_SECONDS, sink, seq) for seq, _ in rows],
                )
                return [(seq, json.loads(body)) for seq, body in rows]

        return self._guarded(step)

    def release(self, sink: str) -> None:
        """Give back what this process has leased."""
        self._change(
            "UPDATE pending SET lease_until = 0 WHERE sink = ? AND owner = ?", (sink, self.owner)
        )

    def done(self, sink: str, seqs: Sequence[int]) -> None:
        """A sink has these events."""

        def step() -> None:
            with self._transaction() as db:
                forget(db, sink, seqs)

        self._guarded(step)

    def bury(self, sink: str, seqs: Sequence[int], reason: str) -> None:
        """A sink will never take these events: into the dead-letter table with the reason."""

        def step() -> None:
            with self._transaction() as db:
                for seq in seqs:
                    db.execute(
                        "INSERT OR REPLACE INTO dead SELECT event_id, ?, ?, ?, body FROM events "
                        "WHERE seq = ?",
                        (sink, reason, self._clock(), seq),
                    )
                forget(db, sink, seqs)

        self._guarded(step)

    def pending(self, sink: str) -> int:
        """Events that a sink does not have yet, calls not absorbed included."""

        def step() -> int:
            waiting = self._db.execute("SELECT TOTAL(size) FROM inbox").fetchone()[0]
            held = self._db.execute("SELECT COUNT(*) FROM pending WHERE sink = ?", (sink,))
            return int(waiting) + int(held.fetchone()[0])

        return self._guarded(step)

    def dead(self, sink: str | None = None) -> list[dict[str, Any]]:
        """Dead letters: event_id, sink, reason, at (seconds since 1970) and the event's fields."""

        def step() -> list[Any]:
            return self._db.execute(
                "SELECT event_id, sink, reason, at, body FROM dead WHERE ? IS NULL OR sink = ?",
                (sink, sink),
            ).fetchall()

        names = ("event_id", "sink", "reason", "at", "event")
        return [
            dict(zip(names, (*row[:4], json.loads(row[4])), strict=True))
            for row in self._guarded(step)
        ]

    def dead_count(self, sink: str) -> int:
        """How many dead letters a sink has."""
        count = "SELECT COUNT(*) FROM dead WHERE sink = ?"
        return int(self._guarded(lambda: self._db.execute(count, (sink,)).fetchone()[0]))

    def close(self) -> None:
        """Close the file; events stay in it."""
        with self.lock, contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _change(self, statement: str, values: tuple[Any, ...]) -> None:
        self._guarded(lambda: self._db.execute(statement, values).fetchall())

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _guarded(self, step: Callable[[], T]) -> T:
        try:
            return self._patiently(step)
        except sqlite3.Error as error:
            raise SpoolBusy(str(error)) from None

    def _patiently(self, step: Callable[[], T]) -> T:
        """Run a step, again while another process holds the lock; never sleep with our own."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with self.lock:
                    return step()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= end:
                    raise
            time.sleep(0.002)


def forget(db: sqlite3.Connection, sink: str, seqs: Sequence[int]) -> None:
    """Strike events off a sink's list, and from the spool where no sink waits for them."""
    db.executemany("DELETE FROM pending WHERE sink = ? AND seq = ?", [(sink, s) for s in seqs])
    db.executemany(
        "DELETE FROM events WHERE seq = ? AND NOT EXISTS (SELECT 1 FROM pending WHERE seq = ?)",
        [(s, s) for s in seqs],
    )


def expanded(body: str) -> Iterator[dict[str, Any]]:
    """The events of one call."""
    call = json.loads(body)
    base = call["base"]
    for row in call["rows"]:
        yield {**base, **row}


def ended(owner: str | None) -> bool:
    """Whether a leasing process of this host is gone."""
    host, _, rest = (owner or "").rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
