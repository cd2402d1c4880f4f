"""The two connections to a spool's file, and who may use them when."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from modelward.siem.spool_file import SpoolBusy, checkpoint, connected

__all__ = ["LOCK_SECONDS", "PATIENCE_SECONDS", "SpoolLink"]

T = TypeVar("T")

LOCK_SECONDS = 0.0005
"""Longest wait of a prediction for the spool."""
PATIENCE_SECONDS = 5.0
"""Longest wait of the background threads for another process."""


class SpoolLink:
    """One connection for predictions and one for the background.

    So a prediction waits for nothing but SQLite's own write lock.

    Args:
        path: The file; None keeps everything in memory.
        most_bytes: About the size from which nothing more is put in.

    Raises:
        SpoolBusy: The file cannot be opened or is no spool.
    """

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        # One connection in memory is one database: there the two halves share it.
        self._work_lock = self._lock if path is None else threading.Lock()
        self._connect()

    def _connect(self) -> None:
        self._db = self._patiently(lambda: connected(self.path, self._most_bytes), None)
        self.work = self._db
        """The connection of the background, for use inside ``guarded``."""
        if self.path is not None:
            try:
                self.work = self._patiently(lambda: connected(self.path, self._most_bytes), None)
            except SpoolBusy:
                self._db.close()
                raise

    def write(self, statement: str, values: tuple[Any, ...], patience: float) -> None:
        """Write through the connection of predictions.

        Args:
            statement: SQL.
            values: For its question marks.
            patience: Longest wait for locks, in seconds.

        Raises:
            SpoolBusy: It did not work out in that time, or the disk is full.
        """
        end = time.perf_counter() + patience
        if not self._lock.acquire(timeout=patience):
            raise SpoolBusy("locked by a thread of this process", locked=True)
        try:
            while True:
                try:
                    self._db.execute(statement, values)
                    return
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.perf_counter() >= end:
                        raise
                    time.sleep(0.0001)
        except sqlite3.Error as error:
            raise SpoolBusy(str(error), locked="locked" in str(error)) from None
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; inside ``guarded`` only."""
        self.work.execute("BEGIN IMMEDIATE")
        try:
            yield self.work
            self.work.execute("COMMIT")
        except BaseException:
            # Also where the commit fails: an open transaction would block all that follow.
            with contextlib.suppress(sqlite3.Error):
                self.work.execute("ROLLBACK")
            raise

    def guarded(self, step: Callable[[], T]) -> T:
        """Run a step of the background, alone.

        Raises:
            SpoolBusy: Another process kept the lock for seconds, or the disk is full.
        """
        return self._patiently(step, self._work_lock)

    def _patiently(self, step: Callable[[], T], lock: Any) -> T:
        """Run a step, again while another process holds the lock; never sleep with our own."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with lock or contextlib.nullcontext():
                    return step()
            except (sqlite3.Error, OSError) as error:
                locked = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
                if not locked or time.monotonic() >= end:
                    raise SpoolBusy(f"{self.path or 'memory'}: {error}", locked=locked) from None
            time.sleep(0.002)

    def tidy(self) -> None:
        """Bring the write-ahead log into the file; predictions go on meanwhile."""
        if self.path is not None:
            with contextlib.suppress(sqlite3.Error, OSError), self._work_lock:
                checkpoint(self.work, self.path)

    def close(self) -> None:
        """Close the file; events stay in it."""
        self.suspend()
        self._release_locks()

    def suspend(self) -> None:
        """Close the file and let nobody at it until ``resume``: SQLite must not cross a fork."""
        self._work_lock.acquire()
        if self._lock is not self._work_lock:
            self._lock.acquire()
        for connection in {self.work, self._db}:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def resume(self) -> None:
        """Open the file again.

        Raises:
            SpoolBusy: It cannot be opened any more.
        """
        try:
            self._connect()
        finally:
            self._release_locks()

    def _release_locks(self) -> None:
        if self._lock is not self._work_lock:
            self._lock.release()
        self._work_lock.release()
