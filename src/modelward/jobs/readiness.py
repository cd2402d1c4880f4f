"""Whether the service can take work right now."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from modelward.domain import StorageFullError, UnavailableError
from modelward.jobs.database import Database

__all__ = ["Readiness"]

_KEPT_SECONDS = 1.0


class Readiness:
    """Looks at database, disk and dispatcher; answers for a second are reused.

    Each look takes the database's write lock for a moment, so nobody may cause many of them.
    """

    def __init__(
        self, database: Database, data: Path, *, floor: int, dispatching: Callable[[], bool]
    ) -> None:
        """Watch a data folder.

        Args:
            database: Its database.
            data: The folder.
            floor: Bytes that must be free on its disk.
            dispatching: Whether jobs are being started.
        """
        self._database = database
        self._data = data
        self._floor = floor
        self._dispatching = dispatching
        self._lock = threading.Lock()
        self._last: tuple[float, dict[str, str]] | None = None

    def checks(self) -> dict[str, str]:
        """Each check by name: ``ok``, or what is wrong."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _KEPT_SECONDS:
                found = {
                    "database": self._writable(),
                    "dispatcher": "ok" if self._dispatching() else "jobs are not being started",
                    "disk": self._space(),
                }
                self._last = (time.monotonic(), found)
            return dict(self._last[1])

    def _writable(self) -> str:
        try:
            with self._database.write() as connection:
                # The write lock alone is granted on a full disk too; a page must be written.
                # The same value again: nothing changes for anybody.
                version = connection.execute(text("PRAGMA user_version")).scalar_one()
                connection.execute(text(f"PRAGMA user_version = {int(version)}"))
        except (SQLAlchemyError, UnavailableError, StorageFullError) as error:
            return f"not writable ({type(error).__name__})"
        return "ok"

    def _space(self) -> str:
        try:
            free = shutil.disk_usage(self._data).free
        except OSError as error:
            return f"data folder not readable ({error.strerror})"
        return "ok" if free >= self._floor else f"{free} bytes free, expected {self._floor}"
