"""Trouble with the disk, told in words that say what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from modelward.domain import StorageFullError, UnavailableError

__all__ = ["disk_errors", "disk_trouble"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_BROKEN = {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
_RETRY_SECONDS = 30.0
# obstore hands on the operating system's words, but not its number.
_WORDS = {
    errno.ENOSPC: ("no space left", "quota exceeded", "file too large"),
    errno.EROFS: ("read-only file system", "permission denied", "operation not permitted"),
    errno.EIO: ("input/output error", "too many open files"),
}


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, BaseError):
        text = str(error).lower()
        for number, words in _WORDS.items():
            if any(word in text for word in words):
                return number
    return None


def _explain(number: int | None) -> UnavailableError | None:
    if number in _FULL:
        return StorageFullError(
            "data folder: expected space for this file; the disk is full, or a quota or a limit on "
            "file sizes is reached. Make room (`modelward gc --older-than 30d` removes old "
            "uploads and artifacts) and send the request again; nothing that was finished is lost",
            retry_after=_RETRY_SECONDS,
        )
    if number in _CLOSED:
        return UnavailableError(
            "data folder: expected to be writable; it is read-only or belongs to somebody else. "
            "Give the service's user write access, or mount the file system writable"
        )
    if number in _BROKEN:
        return UnavailableError(
            "data folder: the disk does not answer as it should; see the service's log",
            retry_after=_RETRY_SECONDS,
        )
    return None


def disk_trouble(error: BaseException | None) -> UnavailableError | None:
    """Tell whether a disk stands behind an exception, or behind one that led to it.

    Returns:
        What to tell the user; None where the exception is about something else.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UnavailableError):
            return error
        if found := _explain(_number(error)):
            return found
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a full, read-only or broken disk into an error that the edges can show.

    Raises:
        StorageFullError: No space.
        UnavailableError: Not writable, or broken.
    """
    try:
        yield
    except (OSError, BaseError) as error:
        if found := _explain(_number(error)):
            raise found from error
        raise
