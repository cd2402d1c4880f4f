"""Blob store over obstore; nothing is ever read into memory as a whole unless asked for."""

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.store import LocalStore

from modelward.domain import NotFoundError
from modelward.storage.durable import sync_file, sync_folder
from modelward.storage.faults import disk_errors
from modelward.storage.private import make_folder

__all__ = ["Blob", "BlobStore"]

_CHUNK = 1024 * 1024
_DRAFT = re.compile(r".+#\d+")
"""Name of a file that obstore is writing; it hides such files, those of dead writers too."""


@dataclass(frozen=True)
class Blob:
    """What is known about a stored file without reading it."""

    key: str
    size: int
    modified: float
    """Seconds since 1970, UTC."""


class BlobStore:
    """Files by key (``inputs/<model>/<slot>/<id>.zip``) below one local folder.

    Writes become visible as a whole: a reader sees the old blob, the new one, or none. They are
    on the disk when the call returns: what a report or a job refers to survives a power cut.

    A full, read-only or broken disk raises StorageFullError or UnavailableError.
    """

    def __init__(self, root: Path) -> None:
        make_folder(root)
        self._root = root.resolve()
        self._store = LocalStore(self._root)

    def put_file(self, key: str, path: Path) -> int:
        """Copy a file into the store, in parts.

        Returns:
            Size in bytes.
        """
        with disk_errors():
            obstore.put(self._store, key, path)
            self._sync(key)
            return path.stat().st_size

    def put_bytes(self, key: str, content: bytes) -> int:
        """Store a small blob.

        Returns:
            Size in bytes.
        """
        with disk_errors():
            obstore.put(self._store, key, content)
            self._sync(key)
        return len(content)

    def _sync(self, key: str) -> None:
        path = self._root / key
        sync_file(path)
        # the folders above may be new too
        for folder in path.parents:
            sync_folder(folder)
            if folder == self._root:
                break

    def read(self, key: str) -> bytes:
        """A small blob as a whole.

        Raises:
            NotFoundError: No blob has this key.
        """
        return b"".join(self.stream(key))

    def stream(self, key: str, chunk: int = _CHUNK) -> Iterator[bytes]:
        """The blob in pieces of about ``chunk`` bytes.

        Raises:
            NotFoundError: No blob has this key; raised at once, not with the first piece.
        """
        return self.open(key, chunk)[1]

    def open(self, key: str, chunk: int = _CHUNK) -> tuple[int, Iterator[bytes]]:
        """Size of the blob and its pieces, which are of this moment whatever happens to the key.

        Raises:
            NotFoundError: No blob has this key.
        """
        try:
            result = obstore.get(self._store, key)
        except FileNotFoundError:
            raise NotFoundError(f"file: expected a stored file at {key}; there is none") from None
        return int(result.meta["size"]), (
            bytes(part) for part in result.stream(min_chunk_size=chunk)
        )

    def fetch(self, key: str, destination: Path) -> Path:
        """Write the blob to a local file.

        Raises:
            NotFoundError: No blob has this key.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        with destination.open("wb") as target:
            for part in self.stream(key):
                target.write(part)
        return destination

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """A local file with the blob's content, good inside the ``with`` block; do not write it.

        Raises:
            NotFoundError: No blob has this key.
        """
        path = self._root / key
        if path.is_file():
            yield path
            return
        folder = Path(tempfile.mkdtemp(prefix="modelward-"))
        try:
            yield self.fetch(key, folder / Path(key).name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def exists(self, key: str) -> bool:
        """Whether a blob has this key."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Bytes of the blob; None where there is none."""
        try:
            return int(obstore.head(self._store, key)["size"])
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Remove the blob, or the draft; a missing one is not an error."""
        with disk_errors():
            if _DRAFT.fullmatch(key):
                (self._root / key).unlink(missing_ok=True)
                return
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def keys(self, prefix: str = "") -> list[str]:
        """Sorted keys below a prefix that ends at a ``/``."""
        return [blob.key for blob in self.blobs(prefix)]

    def blobs(self, prefix: str = "") -> list[Blob]:
        """What lies below a prefix that ends at a ``/``, sorted by key."""
        found = [
            Blob(str(item["path"]), int(item["size"]), item["last_modified"].timestamp())
            for batch in obstore.list(self._store, prefix or None)
            for item in batch
        ]
        return sorted(found, key=lambda blob: blob.key)

    def drafts(self, prefix: str = "", *, before: float) -> list[Blob]:
        """Half-written files below a prefix that nobody has written to since ``before``.

        A writer that is killed leaves its draft, which is no blob and may be as large as one.
        """
        found = []
        for folder, _, names in os.walk(self._root / prefix):
            for name in filter(_DRAFT.fullmatch, names):
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):  # it is finished, or gone, meanwhile
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode) and status.st_mtime < before:
                        key = path.relative_to(self._root).as_posix()
                        found.append(Blob(key, status.st_size, status.st_mtime))
        return sorted(found, key=lambda draft: draft.key)

    def sweep(self, prefix: str = "") -> None:
        """Remove folders that hold nothing any more: the one of the prefix, and those below it."""
        # os.walk, unlike pathlib, takes it calmly where others remove folders meanwhile.
        for folder, _, _ in os.walk(self._root / prefix, topdown=False):
            # Another process may be about to put a file there: then it is not empty.
            if Path(folder) != self._root:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
