"""Backups of a data folder while the service runs; ``restore`` brings them back.

A backup is a folder or one tar file: the database as of one moment (SQLite's online backup), the
files that it names, the signing key, and a manifest with the SHA-256 sum of each. Whoever holds it
can read every uploaded model and sign links, so it is readable by its owner only.
"""

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelward._version import __version__
from modelward.domain import ConflictError, InvalidInputError, UnavailableError
from modelward.jobs.database import DATABASE_FILE, damaged, explain, no_service
from modelward.storage import disk_errors, sync_folder

__all__ = ["FORMAT", "MANIFEST", "BackupSummary", "digest", "inside", "make_backup"]

MANIFEST = "manifest.json"
FORMAT = 1
_TRIES = 5
_BUSY_SECONDS = 30.0
_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_SQLITE = b"SQLite format 3\0"
_BLOBS = "blobs"


@dataclass(frozen=True)
class BackupSummary:
    """What a backup holds."""

    path: Path
    files: int
    bytes: int
    created: str


def make_backup(data: Path, target: Path) -> BackupSummary:
    """Write a backup of a data folder, beside a running service or without one.

    Args:
        data: The data folder.
        target: New folder, or new file that ends in .tar, .tar.gz or .tgz.

    Raises:
        InvalidInputError: There is no service's data, or the target is there already or inside.
        ConflictError: Files went faster than they could be copied, or one is lost.
        StorageFullError: No space; nothing is left behind.
        UnavailableError: The database is damaged, locked or not readable.
    """
    if not os.path.isfile(data / DATABASE_FILE):
        raise no_service(data)
    target = Path(os.path.abspath(target))
    if os.path.lexists(target):
        raise InvalidInputError(
            f"backup: expected a new file or folder; {target} exists already. Name another one, "
            "or move it away"
        )
    if target.is_relative_to(data.resolve()):
        raise InvalidInputError(
            f"backup: expected a place outside of the data folder; got {target}"
        )
    draft = target.with_name(f".{target.name}-{secrets.token_hex(6)}")
    with disk_errors():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            summary = _fill(data, draft, target)
            if target.name.endswith(_ARCHIVES):
                packed = draft.with_name(draft.name + ".tar")
                try:
                    _pack(draft, packed, gzip=not target.name.endswith(".tar"))
                    packed.replace(target)
                finally:
                    packed.unlink(missing_ok=True)
            else:
                os.sync()
                draft.replace(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return summary


def _fill(data: Path, draft: Path, target: Path) -> BackupSummary:
    gone = None
    for _ in range(_TRIES):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        with _explained(data):
            _copy_database(data / DATABASE_FILE, draft / DATABASE_FILE)
            names = _named_blobs(draft / DATABASE_FILE, data)
        try:
            for name in names:
                _copy_file(data / _BLOBS / name, draft / _BLOBS / name)
            with _explained(data):
                _copy_beside(data, draft)
        except FileNotFoundError as error:
            # An upload was replaced, or a model deleted, since the database was copied: the copy
            # names files that are gone. A new one does not: rows go before their files.
            if gone is not None and gone == error.filename:
                raise ConflictError(
                    f"backup: expected every file that the database names; {gone} is lost. Put it "
                    "back, or delete the model that it belongs to, and make the backup then"
                ) from error
            gone = error.filename
            continue
        return _write_manifest(draft, target)
    raise ConflictError(
        f"backup: expected files to stay for the length of a copy; they were removed {_TRIES} "
        "times meanwhile. Try again when fewer uploads are replaced"
    )


@contextmanager
def _explained(data: Path) -> Iterator[None]:
    """Tell what SQLite meets in words that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise (explain(error, data) or UnavailableError(f"backup: {error}")) from error


def _copy_database(source: Path, target: Path) -> None:
    with (
        closing(
            sqlite3.connect(
                f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS
            )
        ) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy, progress=_no_endless_wait)
        # one file, which any SQLite opens without its companions
        copy.execute("PRAGMA journal_mode=DELETE")
    target.chmod(0o600)


def _no_endless_wait(status: int, _left: int, _pages: int) -> None:
    """SQLite has waited for the lock already; the driver would ask again for ever."""
    if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise sqlite3.OperationalError("database is locked")


def _named_blobs(database: Path, data: Path) -> list[str]:
    """The files that a sound copy names; a damaged one must not look like a backup."""
    with closing(sqlite3.connect(database)) as connection:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict is None or verdict[0] != "ok":
            raise damaged(data / DATABASE_FILE, str(verdict))
        rows = connection.execute("SELECT blob FROM uploads UNION SELECT blob FROM artifacts")
        return sorted(inside(str(row[0])) for row in rows)


def inside(name: str) -> str:
    """The name, which leads to a place below the folder that it is joined to.

    Raises:
        InvalidInputError: It does not.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise InvalidInputError(f"backup: expected names below its folder; got {name[:200]!r}")
    return name


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o600)


def _copy_beside(data: Path, draft: Path) -> None:
    """The signing key, and whatever else the service keeps in its data folder itself."""
    for path in sorted(data.iterdir()):
        companion = path.name.endswith((".lock", "-wal", "-shm", "-journal"))
        if path.name == DATABASE_FILE or path.name.startswith(".") or companion:
            continue
        if not path.is_file() or path.is_symlink():
            continue
        with path.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
        (_copy_database if is_database else _copy_file)(path, draft / path.name)


def digest(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(draft: Path, target: Path) -> BackupSummary:
    files = [path for path in sorted(draft.rglob("*")) if path.is_file()]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {
        "format": FORMAT,
        "modelward_version": __version__,
        "created": created,
        "files": {
            path.relative_to(draft).as_posix(): {
                "size": path.stat().st_size,
                "sha256": digest(path),
            }
            for path in files
        },
    }
    path = draft / MANIFEST
    path.write_text(json.dumps(manifest, indent=1) + "\n")
    path.chmod(0o600)
    return BackupSummary(target, len(files), sum(file.stat().st_size for file in files), created)


def _pack(folder: Path, target: Path, *, gzip: bool) -> None:
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz" if gzip else "w") as archive:
            archive.add(folder, arcname=".")
        file.flush()
        os.fsync(file.fileno())
