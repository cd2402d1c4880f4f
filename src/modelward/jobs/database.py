"""SQLite in WAL mode: many readers beside one writer, shared by server and job processes."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from modelward.domain import (
    ConflictError,
    InvalidInputError,
    ModelwardError,
    StorageFullError,
    UnavailableError,
)
from modelward.storage import disk_errors, make_folder, private_folder

__all__ = [
    "DATABASE_FILE",
    "Database",
    "check_database",
    "damaged",
    "exclusive",
    "explain",
    "no_service",
]

DATABASE_FILE = "modelward.db"
_BUSY_SECONDS = 10.0
_RETRY_SECONDS = 5.0
_LONGEST_WAIT = 86_400.0


@contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file; yields False where ``wait`` is off and another process holds it.

    Raises:
        UnavailableError: It cannot be made, or something else stands in its place.
    """
    make_folder(path.parent)
    try:
        with disk_errors():
            handle = path.open("a")
    except IsADirectoryError as error:
        raise UnavailableError(
            f"lock file {path}: expected a file, or nothing; got a folder. Move it away"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


class Database:
    """Connections to the database file below a data folder.

    ``read`` sees one consistent snapshot; ``write`` takes the write lock at its beginning, so
    that what it reads is still true when it writes. Both stay open for moments only. What SQLite
    reports about the disk, locks or damage becomes UnavailableError or StorageFullError.

    Args:
        data: Data folder.
        wait_seconds: How long a writer waits for another one.
    """

    def __init__(self, data: Path, *, wait_seconds: float = _BUSY_SECONDS) -> None:
        private_folder(data)
        self._folder = data
        self._engine = create_engine(
            f"sqlite:///{data / DATABASE_FILE}",
            # errors reach the log, and parameters may hold what a client keeps secret
            hide_parameters=True,
            # at least one connection for each thread that serves requests
            pool_size=10,
            max_overflow=40,
            connect_args={"timeout": wait_seconds, "check_same_thread": False},
        )
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(
            modelward_write="NORMAL", modelward_wait=wait_seconds
        )
        self._durable_writer = self._writer.execution_options(modelward_write="FULL")

    def migrate(self) -> None:
        """Bring the schema to the newest step; safe where several processes start at once.

        Raises:
            ConflictError: A newer version of Modelward made the schema.
        """
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option(
            "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
        )
        with (
            exclusive(self._folder / "migrate.lock"),
            self._explained(),
            self._engine.connect() as connection,
        ):
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise ConflictError(
                    f"database {self._folder / DATABASE_FILE}: expected a schema that this version "
                    f"of Modelward knows; {error}. A newer version made it: use that one"
                ) from error
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading."""
        with self._explained(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(
        self, *, durable: bool = False, wait_seconds: float | None = None
    ) -> Iterator[Connection]:
        """A transaction for writing; committed at the end, rolled back on an exception.

        Args:
            durable: Wait until the commit, and every earlier one, is on the disk
                (``synchronous=FULL``). Without it a commit survives the death of any process, but
                a power cut may take the last ones: enough for progress, not for a promise to a
                client (a job is accepted, has ended).
            wait_seconds: How long to wait for another writer, where that is not as long as usual.
        """
        writer = self._durable_writer if durable else self._writer
        if wait_seconds is not None:
            writer = writer.execution_options(modelward_wait=wait_seconds)
        with self._explained(), writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if found := explain(error.orig, self._folder):
                raise found from error
            raise
        except UnicodeEncodeError as error:
            # half of a surrogate pair, or bytes of a command line that are no UTF-8
            raise InvalidInputError(
                f"text: expected Unicode characters; got {error.object[:40]!a}"
            ) from None
        except PoolTimeoutError as error:
            raise UnavailableError(
                "database: expected a free connection; all are in use. Try again in a moment",
                retry_after=_RETRY_SECONDS,
            ) from error


def check_database(data: Path) -> None:
    """Look whether the database of a data folder, where there is one, is sound.

    Raises:
        UnavailableError: It is damaged, or cannot be read or written; the message says what to do.
    """
    path = data / DATABASE_FILE
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            verdict = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
            # takes the write lock, which a read-only file or folder refuses
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise (explain(error, data) or UnavailableError(f"database {path}: {error}")) from error
    if verdict != ["ok"]:
        raise damaged(path, str(verdict[0]) if verdict else "no answer")


def no_service(data: Path) -> InvalidInputError:
    """What to tell whoever names a folder in which no service ever worked."""
    return InvalidInputError(
        f"--data: expected the data folder of a service; {str(data)[:300]} holds no "
        f"{DATABASE_FILE}. `modelward org create` or `modelward serve` make one"
    )


def damaged(path: Path, detail: str) -> UnavailableError:
    """What to tell about a database file that is broken."""
    return UnavailableError(
        f"database {path}: expected a sound SQLite file; it is damaged ({detail[:200]}). Stop the "
        "service, keep a copy of the data folder, and bring back the last backup with `modelward "
        "restore`. Reports that were finished still lie below blobs/artifacts/<job id>"
    )


def explain(error: object, data: Path) -> ModelwardError | None:
    """What to tell the user about an error of SQLite; None where it is no trouble of the file."""
    text = str(error).lower()
    if "malformed" in text or "not a database" in text:
        return damaged(data / DATABASE_FILE, text)
    if "locked" in text or "busy" in text:
        return UnavailableError(
            "database: expected to be free for a moment; another process holds its lock. Try "
            "again; where this lasts, look for a backup or an editor that keeps it open",
            retry_after=_RETRY_SECONDS,
        )
    if "disk is full" in text:
        return StorageFullError(
            "database: expected space for this change; the disk is full. Make room (`modelward gc "
            "--older-than 30d` removes old uploads and artifacts) and send the request again; "
            "nothing that was finished is lost",
            retry_after=30.0,
        )
    if "readonly" in text or "read-only" in text or "unable to open" in text:
        return UnavailableError(
            f"database {data / DATABASE_FILE}: expected to be writable; the file or its folder is "
            "read-only, or belongs to somebody else. Give the service's user write access"
        )
    if "disk i/o error" in text:
        return UnavailableError(
            "database: the disk does not answer as it should, or a limit on file sizes is "
            "reached; see the service's log and the kernel's",
            retry_after=30.0,
        )
    return None


def _prepare(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin late; _begin does it instead.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    level = options.get("modelward_write")
    if level is None:
        connection.exec_driver_sql("BEGIN")
        return
    milliseconds = int(min(options["modelward_wait"], _LONGEST_WAIT) * 1000)
    # Both hold for the connection, and the level may only change outside of a transaction.
    connection.exec_driver_sql(f"PRAGMA busy_timeout={milliseconds}")
    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
