"""Data folders and files that nobody but their owner can read."""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modelward.domain import UnavailableError
from modelward.storage.faults import disk_errors

__all__ = ["make_folder", "private_files", "private_folder"]

_LOG = logging.getLogger(__name__)
_OTHERS = 0o077
_NO_FOLDER = {
    errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EINVAL,
}  # fmt: skip
_OURS = {"blobs", "checkpoints", "incoming", "logs", "work", "lost+found"}
_OUR_FILES = ("modelward.db", "siem-spool.db", "signing", "migrate.lock", "server.lock", ".")


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Whatever this process makes meanwhile is readable by its owner only."""
    before = os.umask(_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def make_folder(path: Path) -> None:
    """Make a data folder with those above it, where it is missing.

    Raises:
        UnavailableError: There is something else at this place, or it cannot be written.
        StorageFullError: No space.
    """
    with disk_errors():
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise
            raise UnavailableError(
                f"data folder {str(path)[:300]}: expected a folder, or a place where one can be "
                f"made; got: {error.strerror}. Move away what is there, or name another one with "
                "--data"
            ) from error


def private_folder(path: Path) -> None:
    """Make a data folder, and close one to others that was there with looser modes.

    A folder that belongs to somebody else, or that holds other things as well (a home, /tmp), is
    left as it is, with a warning.

    Raises:
        UnavailableError: It cannot be made.
        StorageFullError: No space.
    """
    make_folder(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & _OTHERS:
        return
    try:
        if path.stat().st_uid == os.geteuid() and not mode & stat.S_ISVTX and _only_ours(path):
            path.chmod(0o700)
            _LOG.warning(
                "data folder %s: others could read it (mode %03o); it is now its owner's only "
                "(0700)", path, mode,
            )  # fmt: skip
            return
    except OSError as error:
        _LOG.debug("data folder %s: %s", path, error)
    _LOG.warning(
        "data folder %s: others may read it (mode %03o), and it is not ours alone to close. Use a "
        "folder that holds nothing else, or run chmod 700 on it", path, mode,
    )  # fmt: skip


def _only_ours(path: Path) -> bool:
    return all(
        name in _OURS or name.startswith(_OUR_FILES)
        for name in (item.name for item in path.iterdir())
    )
