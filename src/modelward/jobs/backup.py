"""Backups of a data folder while the service runs, and their way back.

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
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelward._version import __version__
from modelward.domain import ConflictError, InvalidInputError, NotFoundError
from modelward.jobs.database import DATABASE_FILE, check_database, no_service
from modelward.storage import disk_errors, sync_folder

__all__ = ["BackupSummary", "make_backup", "restore_backup"]

_MANIFEST = "manifest.json"
_FORMAT = 1
_TRIES = 5
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
        ConflictError: Files went faster than they could be copied.
        StorageFullError: No space; nothing is left behind.
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
    for _ in range(_TRIES):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        try:
            _copy_database(data / DATABASE_FILE, draft / DATABASE_FILE)
            for name in _named_blobs(draft / DATABASE_FILE):
                _copy_file(data / _BLOBS / name, draft / _BLOBS / name)
        except FileNotFoundError:
            # An upload was replaced, or a model deleted, since the database was copied: the copy
            # names files that are gone. A new one does not.
            continue
        _copy_beside(data, draft)
        return _write_manifest(draft, target)
    raise ConflictError(
        f"backup: expected files to stay for the length of a copy; they were removed {_TRIES} "
        "times meanwhile. Try again when fewer uploads are replaced"
    )


def _copy_database(source: Path, target: Path) -> None:
    with (
        closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
        ) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
        # one file, which any SQLite opens without its companions
        copy.execute("PRAGMA journal_mode=DELETE")
    target.chmod(0o600)


def _named_blobs(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT blob FROM uploads UNION SELECT blob FROM artifacts")
        return sorted(_inside(str(row[0])) for row in rows)


def _inside(name: str) -> str:
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(draft: Path, target: Path) -> BackupSummary:
    files = [path for path in sorted(draft.rglob("*")) if path.is_file()]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {
        "format": _FORMAT,
        "modelward_version": __version__,
        "created": created,
        "files": {
            path.relative_to(draft).as_posix(): {
                "size": path.stat().st_size,
                "sha256": _digest(path),
            }
            for path in files
        },
    }
    path = draft / _MANIFEST
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


def restore_backup(source: Path, data: Path) -> BackupSummary:
    """Make a data folder from a backup; it appears as a whole, after every check.

    Args:
        source: From ``make_backup``: a folder or a tar file.
        data: The new data folder; missing or empty.

    Raises:
        NotFoundError: There is no backup.
        InvalidInputError: It is damaged or incomplete, or the folder is not empty.
        StorageFullError: No space; nothing is left behind.
    """
    if not source.exists():
        raise NotFoundError(f"backup: expected a folder or tar file at {source}; there is none")
    data = Path(os.path.abspath(data))
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise InvalidInputError(
            f"--data: expected a new or empty folder; {data} is not empty. Restore beside it, "
            "then start the service with the restored folder"
        )
    draft = data.with_name(f".{data.name}-{secrets.token_hex(6)}")
    with disk_errors():
        draft.mkdir(mode=0o700, parents=True)
        try:
            if source.is_dir():
                shutil.copytree(source, draft, dirs_exist_ok=True, symlinks=True)
            else:
                _unpack(source, draft)
            summary = _check(draft, data)
            check_database(draft)
            (draft / _MANIFEST).unlink()
            _close_to_others(draft)
            os.sync()
            if data.exists():
                data.rmdir()
            draft.replace(data)
            sync_folder(data.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return summary


def _unpack(source: Path, target: Path) -> None:
    try:
        with tarfile.open(source) as archive:
            archive.extractall(target, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInputError(
            f"backup {source}: expected a tar file made by `modelward backup`; {error}"
        ) from error


def _check(draft: Path, data: Path) -> BackupSummary:
    """Hold what is there against the manifest."""
    try:
        manifest: dict[str, Any] = json.loads((draft / _MANIFEST).read_bytes())
        files, form = manifest["files"], manifest["format"]
        created = str(manifest["created"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"backup: expected a readable {_MANIFEST} in it; got {type(error).__name__}"
        ) from error
    if form != _FORMAT:
        raise InvalidInputError(
            f"backup: expected format {_FORMAT}; got {form}. Use the version of Modelward that "
            f"made it ({manifest.get('modelward_version')})"
        )
    there = {
        p.relative_to(draft).as_posix()
        for p in draft.rglob("*")
        if p.is_symlink() or not p.is_dir()
    }
    strange = there - set(files) - {_MANIFEST}
    if strange:
        raise InvalidInputError(
            f"backup: expected what its manifest names; there is more: {sorted(strange)[:5]}"
        )
    for name, entry in files.items():
        path = draft / _inside(name)
        if path.is_symlink() or not path.is_file() or _digest(path) != entry["sha256"]:
            raise InvalidInputError(
                f"backup: expected {name} as it was saved; it is missing or altered. Use another "
                "backup"
            )
    if DATABASE_FILE not in files:
        raise InvalidInputError(f"backup: expected {DATABASE_FILE} in it; there is none")
    return BackupSummary(data, len(files), sum(entry["size"] for entry in files.values()), created)


def _close_to_others(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
