"""Events on disk until every SIEM has them."""

import contextlib
import json
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modelward.siem.spool_file import (
    SpoolBusy,
    counted,
    expanded,
    forget,
    leases_void,
    occupied,
)
from modelward.siem.spool_link import LOCK_SECONDS, SpoolLink

__all__ = ["Spool", "SpoolBusy"]

LEASE_SECONDS = 120.0
"""How long a process may take to send what it has taken; longer than any timeout of a sink."""
INBOX_ROWS, INBOX_EVENTS = 20, 200
BATCH_BYTES = 1_000_000
"""Most bytes of one batch; both SIEMs take more."""
DEAD_MOST = 5_000
"""Dead letters kept; older ones make room."""
RECOUNT_SECONDS = 5.0


class Spool:
    """SQLite file that several processes may share.

    Writers put whole calls into ``inbox``, which costs one row; ``absorb`` makes single events of
    them, each pending for its sinks. An event leaves when no sink waits for it. Write-ahead log
    with ``synchronous=NORMAL``: what is committed survives the death of the process.

    Args:
        path: The file; its folder is made. None keeps everything in memory.
        most_bytes: Size from which nothing more is put in.
        clock: Seconds since 1970, for leases.
        sinks: Whose events count as stored; all where there are none.

    Raises:
        SpoolBusy: The file cannot be opened or is no spool.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        most_bytes: int = 512 << 20,
        clock: Callable[[], float] = time.time,
        sinks: Sequence[str] = (),
    ) -> None:
        self._sinks = tuple(sinks)
        self.path = path
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._clock = clock
        self._most_bytes = most_bytes
        self._link = SpoolLink(path, most_bytes)
        self._stored = self._bytes = 0
        self._counted_at = 0.0
        with contextlib.suppress(SpoolBusy):
            self.absorb()

    @property
    def stored(self) -> int:
        """Events on disk: as last counted, and those put in since."""
        return self._stored

    def put(
        self, sinks: Sequence[str], size: int, body: str, patience: float = LOCK_SECONDS
    ) -> None:
        """Store one call's events; by default waits at most half a millisecond.

        Args:
            sinks: Names of the sinks that want them.
            size: How many events the body stands for.
            body: JSON ``{"base": fields, "rows": [fields that differ, ...]}``.
            patience: Longest wait, in seconds.

        Raises:
            SpoolBusy: It did not work out in that time, or the spool or the disk is full.
        """
        if self._bytes + len(body) > self._most_bytes:
            raise SpoolBusy(f"the spool has reached {self._most_bytes:,} bytes")
        self._link.write(
            "INSERT INTO inbox (sinks, size, body) VALUES (?, ?, ?)",
            (json.dumps(list(sinks)), size, body),
            patience,
        )
        self._stored += size
        self._bytes += len(body)

    def absorb(self) -> int:
        """Make single events of waiting calls, and count what is stored.

        Returns:
            How many calls are still waiting.

        Raises:
            SpoolBusy: Another process kept the lock for seconds, or the disk is full.
        """
        if not self._calls_wait():
            self.tidy()
            return 0

        def step() -> int:
            with self._link.transaction() as db:
                rows = db.execute(
                    "SELECT seq, sinks, body, size FROM inbox ORDER BY seq LIMIT ?", (INBOX_ROWS,)
                ).fetchall()
                events = 0
                for seq, sinks, body, size in rows:
                    # Predictions wait for the lock that this holds: a little at a time.
                    if events >= INBOX_EVENTS:
                        break
                    events += size
                    # The call goes first: in a full spool its events take its place.
                    db.execute("DELETE FROM inbox WHERE seq = ?", (seq,))
                    self._add_call(db, sinks, body)
            return self._recount()

        left = self._link.guarded(step)
        self._link.tidy()
        return left

    def tidy(self) -> None:
        """Bring the write-ahead log in where it has grown, and count what others stored."""
        if time.monotonic() - self._counted_at > RECOUNT_SECONDS:
            self._link.guarded(self._recount)
        self._link.tidy()

    def _calls_wait(self) -> bool:
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM inbox)"))

    def _one(self, question: str, *values: str) -> int:
        """The number that a question asks for."""
        return int(
            self._link.guarded(lambda: self._link.work.execute(question, values).fetchone()[0])
        )

    def _recount(self) -> int:
        calls, self._stored = counted(self._link.work, self._sinks)
        self._bytes = occupied(self._link.work)
        self._counted_at = time.monotonic()
        return calls

    def _add_call(self, db: sqlite3.Connection, sinks: str, body: str) -> None:
        try:
            for fields in expanded(body):
                self._add(db, json.loads(sinks), fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # What cannot be read must not hold up what came after it.
            db.execute(
                "INSERT OR REPLACE INTO dead VALUES (?, '', ?, ?, ?)",
                (
                    f"unreadable-{uuid.uuid4().hex}",
                    f"unreadable: {type(error).__name__}",
                    self._clock(),
                    json.dumps({"text": body[:10_000]}),
                ),
            )

    def _add(self, db: sqlite3.Connection, sinks: list[str], fields: dict[str, Any]) -> None:
        # ASCII: half of a surrogate pair can be written as JSON but not as UTF-8.
        name = str(fields.get("event_id")).encode("utf-8", "replace").decode()
        added = db.execute(
            "INSERT OR IGNORE INTO events (event_id, body) VALUES (?, ?)",
            (name, json.dumps(fields)),
        )
        if added.rowcount > 0:
            db.executemany(
                "INSERT OR IGNORE INTO pending (sink, seq) VALUES (?, ?)",
                [(sink, added.lastrowid) for sink in sinks],
            )

    def take(self, sink: str, most: int) -> list[tuple[int, dict[str, Any]]]:
        """Lease the oldest events of a sink, so that no other process sends them meanwhile.

        Leases of processes of this host that have ended are void.

        Returns:
            (sequence number, fields) of up to ``most`` events and about a megabyte.
        """
        now = self._clock()

        def step() -> list[tuple[int, dict[str, Any]]]:
            with self._link.transaction() as db:
                void = leases_void(db, sink, now, self.owner)
                marks = ", ".join("?" * len(void))
                rows = db.execute(
                    "SELECT p.seq, e.body FROM pending p JOIN events e ON e.seq = p.seq "  # noqa: S608 - question marks only
                    f"WHERE p.sink = ? AND (p.lease_until <= ? OR p.owner IN ({marks})) "
                    "ORDER BY p.seq LIMIT ?",
                    (sink, now, *void, most),
                )
                taken: list[tuple[int, str]] = []
                size = 0
                for seq, body in rows:
                    size += len(body)
                    if taken and size > BATCH_BYTES:
                        break
                    taken.append((seq, body))
                rows.close()
                db.executemany(
                    "UPDATE pending SET owner = ?, lease_until = ? WHERE sink = ? AND seq = ?",
                    [(self.owner, now + LEASE_SECONDS, sink, seq) for seq, _ in taken],
                )
            return [(seq, json.loads(body)) for seq, body in taken]

        return self._link.guarded(step) if self.waiting(sink, absorbed=True) else []

    def release(self, sink: str) -> None:
        """Give back what this process has leased."""
        change = "UPDATE pending SET lease_until = 0 WHERE sink = ? AND owner = ?"
        self._link.guarded(lambda: self._link.work.execute(change, (sink, self.owner)).fetchall())

    def done(self, sink: str, seqs: Sequence[int]) -> None:
        """A sink has these events."""

        def step() -> None:
            with self._link.transaction() as db:
                gone = forget(db, sink, seqs)
            self._stored = max(0, self._stored - gone)

        self._link.guarded(step)

    def bury(self, sink: str, seqs: Sequence[int], reason: str) -> None:
        """A sink will never take these events: into the dead-letter table with the reason."""

        def step() -> None:
            with self._link.transaction() as db:
                db.executemany(
                    "INSERT OR REPLACE INTO dead SELECT event_id, ?, ?, ?, body FROM events "
                    "WHERE seq = ?",
                    [(sink, reason, self._clock(), seq) for seq in seqs],
                )
                db.execute(
                    "DELETE FROM dead WHERE rowid NOT IN "
                    "(SELECT rowid FROM dead ORDER BY at DESC, rowid DESC LIMIT ?)",
                    (DEAD_MOST,),
                )
                gone = forget(db, sink, seqs)
            self._stored = max(0, self._stored - gone)

        self._link.guarded(step)

    def waiting(self, sink: str, *, absorbed: bool = False) -> bool:
        """Whether a sink lacks an event; ``absorbed``: calls not absorbed do not count."""
        question = "SELECT EXISTS (SELECT 1 FROM pending WHERE sink = ?)"
        if not absorbed:
            question += " OR EXISTS (SELECT 1 FROM inbox)"
        return bool(self._one(question, sink))

    def pending(self, sink: str) -> int:
        """Events that a sink does not have yet, calls not absorbed included."""
        waiting = self._one("SELECT TOTAL(size) FROM inbox")
        return waiting + self._one("SELECT COUNT(*) FROM pending WHERE sink = ?", sink)

    def dead(self, sink: str | None = None) -> list[dict[str, Any]]:
        """Dead letters: event_id, sink, reason, at (seconds since 1970) and the event's fields."""

        def step() -> list[Any]:
            return self._link.work.execute(
                "SELECT event_id, sink, reason, at, body FROM dead WHERE ? IS NULL OR sink = ? "
                "ORDER BY at, rowid",
                (sink, sink),
            ).fetchall()

        names = ("event_id", "sink", "reason", "at", "event")
        return [
            dict(zip(names, (*row[:4], json.loads(row[4]))))  # noqa: B905 - Python 3.8 has no strict
            for row in self._link.guarded(step)
        ]

    def dead_count(self, sink: str) -> int:
        """How many dead letters a sink has."""
        return self._one("SELECT COUNT(*) FROM dead WHERE sink = ?", sink)

    def close(self) -> None:
        """Close the file; events stay in it."""
        self._link.close()

    def suspend(self) -> None:
        """Close the file and let nobody at it until ``resume``: SQLite must not cross a fork."""
        self._link.suspend()

    def resume(self) -> None:
        """Open the file again.

        Raises:
            SpoolBusy: It cannot be opened any more.
        """
        self._link.resume()
