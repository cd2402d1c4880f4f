"""The signing keys of a data folder: one signs, retired ones verify until their links are over.

``signing.key`` holds the key that signs. A rotation keeps the old one as
``signing-retired-<milliseconds since 1970>.key``; it is read for as long as a link that it signed
can live, then removed. All files belong to their owner only (0600).
"""

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelward.domain import ConflictError
from modelward.jobs.database import exclusive
from modelward.jobs.secrets import Signer
from modelward.storage import make_folder, sync_folder

__all__ = ["Rotation", "SigningKeys", "rotate_signing_key"]

_CURRENT = "signing.key"
_RETIRED = re.compile(r"signing-retired-(\d{1,16})\.key")
_KEY_BYTES = 32


@dataclass(frozen=True)
class Rotation:
    """What a rotation did."""

    retired: int
    """Earlier keys that are still read."""
    dropped: int
    """Earlier keys that were removed."""


def _draft(data: Path) -> Path:
    draft = data / f".signing-{secrets.token_hex(8)}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return draft


def _retired(data: Path) -> dict[Path, float]:
    """Retired key files and when they were retired, in seconds since 1970."""
    found = {}
    for path in data.glob("signing-retired-*.key"):
        if named := _RETIRED.fullmatch(path.name):
            found[path] = int(named[1]) / 1000
    return found


def _read(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except IsADirectoryError as error:
        raise ConflictError(
            f"signing key {path}: expected a file, or nothing; got a folder. Move it away"
        ) from error
    if len(key) != _KEY_BYTES:
        raise ConflictError(
            f"signing key {path}: expected {_KEY_BYTES} bytes; got {len(key)}. Restore the file, "
            "or remove it: links that were handed out then stop working"
        )
    path.chmod(0o600)
    return key


class SigningKeys:
    """Signs and checks like a :class:`Signer`, with the keys that the folder holds right now."""

    def __init__(
        self, data: Path, *, longest_life: float, clock: Callable[[], float] = time.time
    ) -> None:
        """Read the keys of a folder; the first is made on first use.

        Args:
            data: Data folder.
            longest_life: Seconds that a link lives at most.
            clock: Seconds since 1970.
        """
        self._data = data
        self._longest_life = longest_life
        self._clock = clock
        self._lock = threading.Lock()
        self._state: tuple[int, int, int] | None = None
        self._signer = Signer(b"")
        self._retired: tuple[tuple[float, bytes], ...] = ()
        make_folder(data)
        self._make_first()
        self._current()

    def _make_first(self) -> None:
        path = self._data / _CURRENT
        if path.exists():
            return
        # Written beside and linked into place: two processes starting at once agree on one key.
        draft = _draft(self._data)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()

    def _current(self) -> Signer:
        """The signer of this moment; the files are read again only after a rotation."""
        found = (self._data / _CURRENT).stat()
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        with self._lock:
            if state != self._state:
                self._signer = Signer(_read(self._data / _CURRENT))
                retired = sorted(_retired(self._data).items(), key=lambda item: -item[1])
                self._retired = tuple((moment, _read(path)) for path, moment in retired)
                self._state = state
            oldest = self._clock() - self._longest_life
            living = tuple(key for moment, key in self._retired if moment > oldest)
            return Signer(self._signer.key, living)

    def sign(self, purpose: str, subject: str, expires: float) -> str:
        """See :meth:`Signer.sign`."""
        return self._current().sign(purpose, subject, expires)

    def check(self, token: str | None, purpose: str, subject: str, now: float) -> None:
        """See :meth:`Signer.check`."""
        self._current().check(token, purpose, subject, now)


def rotate_signing_key(
    data: Path,
    *,
    longest_life: float,
    drop_old: bool = False,
    clock: Callable[[], float] = time.time,
) -> Rotation:
    """Sign with a new key from now on; a running server notices at its next link.

    Args:
        data: Data folder that holds a signing key.
        longest_life: Seconds that a link lives at most; keys retired longer ago are removed.
        drop_old: Remove every earlier key at once: all links handed out so far stop working.
            For a key that became known.
        clock: Seconds since 1970.

    Raises:
        ConflictError: The folder holds no signing key.
    """
    path = data / _CURRENT
    if not os.path.exists(path):
        raise ConflictError(
            f"data folder {data}: expected one with a signing key; there is none. "
            "`modelward serve` makes one"
        )
    with exclusive(data / "signing.lock"):
        now = clock()
        draft = _draft(data)
        if not drop_old:
            moment = int(now * 1000)
            while (kept := data / f"signing-retired-{moment}.key").exists():
                moment += 1
            # First kept, then replaced: at no moment is the old key unreadable.
            os.link(path, kept)
        dropped = 0
        for old, retired in _retired(data).items():
            if drop_old or retired <= now - longest_life:
                with contextlib.suppress(FileNotFoundError):
                    old.unlink()
                    dropped += 1
        draft.replace(path)
        # A key that became known must not come back with a power cut.
        sync_folder(data)
        return Rotation(retired=len(_retired(data)), dropped=dropped + int(drop_old))
