"""The way back from a backup to a data folder, after every check."""

import gzip
import json
import lzma
import os
import secrets
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Any

from modelward.domain import InvalidInputError, NotFoundError
from modelward.jobs.backup import FORMAT, MANIFEST, BackupSummary, digest, inside
from modelward.jobs.database import DATABASE_FILE, check_database
from modelward.storage import disk_errors, sync_folder

__all__ = ["restore_backup"]

_NOT_OURS = {"lost+found"}
"""What a new file system holds by itself."""
_BROKEN = (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def restore_backup(source: Path, data: Path) -> BackupSummary:
    """Make a data folder from a backup; its database appears last, after every check.

    Args:
        source: From ``make_backup``: a folder or a tar file.
        data: The new data folder; missing or empty. One that is there stays, since it may be a
            mount or a link.

    Raises:
        NotFoundError: There is no backup.
        InvalidInputError: It is damaged or incomplete, or the folder is not empty.
        StorageFullError: No space; nothing is left behind.
    """
    if not source.exists():
        raise NotFoundError(f"backup: expected a folder or tar file at {source}; there is none")
    data = Path(os.path.abspath(data))
    there = os.path.lexists(data)
    if there and not _is_empty(data):
        raise InvalidInputError(
            f"--data: expected a new or empty folder; {data} is not empty. Restore beside it, "
            "then start the service with the restored folder"
        )
    name = f".{data.name}-{secrets.token_hex(6)}"
    draft = data / name if there else data.with_name(name)
    with disk_errors():
        draft.mkdir(mode=0o700, parents=True)
        try:
            if source.is_dir():
                shutil.copytree(source, draft, dirs_exist_ok=True, symlinks=True)
            else:
                _unpack(source, draft)
            summary = _check(draft, data)
            check_database(draft)
            (draft / MANIFEST).unlink()
            _close_to_others(draft)
            os.sync()
            if there:
                _move_up(draft, data)
            else:
                draft.replace(data)
                sync_folder(data.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return summary


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= _NOT_OURS


def _move_up(draft: Path, data: Path) -> None:
    """Move everything to where it belongs; without its database a folder is no service's yet."""
    for path in sorted(draft.iterdir(), key=lambda path: path.name == DATABASE_FILE):
        path.replace(data / path.name)
    sync_folder(data)


def _unpack(source: Path, target: Path) -> None:
    try:
        with tarfile.open(source) as archive:
            archive.extractall(target, filter="data")
    except _BROKEN as error:
        raise InvalidInputError(
            f"backup {source}: expected a tar file made by `modelward backup`; {error}"
        ) from error


def _check(draft: Path, data: Path) -> BackupSummary:
    """Hold what is there against the manifest."""
    try:
        manifest: dict[str, Any] = json.loads((draft / MANIFEST).read_bytes())
        files = {name: str(entry["sha256"]) for name, entry in manifest["files"].items()}
        form, created = manifest["format"], str(manifest["created"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInputError(
            f"backup: expected a readable {MANIFEST} in it; got {type(error).__name__}"
        ) from error
    if form != FORMAT:
        raise InvalidInputError(
            f"backup: expected format {FORMAT}; got {form}. Use the version of Modelward that "
            f"made it ({manifest.get('modelward_version')})"
        )
    there = {
        p.relative_to(draft).as_posix()
        for p in draft.rglob("*")
        if p.is_symlink() or not p.is_dir()
    }
    strange = there - set(files) - {MANIFEST}
    if strange:
        raise InvalidInputError(
            f"backup: expected what its manifest names; there is more: {sorted(strange)[:5]}"
        )
    for name, expected in files.items():
        path = draft / inside(name)
        if path.is_symlink() or not path.is_file() or digest(path) != expected:
            raise InvalidInputError(
                f"backup: expected {name} as it was saved; it is missing or altered. Use another "
                "backup"
            )
    if DATABASE_FILE not in files:
        raise InvalidInputError(f"backup: expected {DATABASE_FILE} in it; there is none")
    size = sum((draft / name).stat().st_size for name in files)
    return BackupSummary(data, len(files), size, created)


def _close_to_others(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
