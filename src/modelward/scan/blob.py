"""Bytes to scan: a window on a file, so that nothing large is held in memory."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["Blob"]

_CHUNK = 2**20


class Blob:
    """A range of bytes in an open, seekable file.

    Attributes:
        size: Length in bytes.
    """

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file = file
        self._start = start
        self.size = size

    @classmethod
    def of_file(cls, file: IO[bytes]) -> "Blob":
        """The whole of an open file."""
        return cls(file, 0, file.seek(0, os.SEEK_END))

    @classmethod
    def of_bytes(cls, content: bytes) -> "Blob":
        """Bytes in memory."""
        return cls(io.BytesIO(content), 0, len(content))

    @classmethod
    def of_path(cls, path: Path) -> "Blob":
        """A file on disk; it is closed when nothing refers to the blob any more."""
        return cls.of_file(path.open("rb"))

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset`` on; fewer at the end."""
        size = min(size, self.size - offset)
        if size <= 0 or offset < 0:
            return b""
        self._file.seek(self._start + offset)
        return self._file.read(size)

    def window(self, offset: int, size: int) -> "Blob":
        """A part of this blob; cut where the blob ends."""
        offset = min(max(offset, 0), self.size)
        return Blob(self._file, self._start + offset, max(0, min(size, self.size - offset)))

    def chunks(self) -> Iterator[bytes]:
        """All bytes, a piece at a time."""
        for offset in range(0, self.size, _CHUNK):
            yield self.read(offset, _CHUNK)

    def open(self) -> io.BufferedReader:
        """A seekable file object over the bytes, for readers that want one."""
        return io.BufferedReader(_Reader(self), _CHUNK // 8)


class _Reader(io.RawIOBase):
    """A blob as a raw file."""

    def __init__(self, blob: Blob) -> None:
        super().__init__()
        self._blob = blob
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._blob.size}[whence]
        if base + offset < 0:
            raise ValueError(f"expected a position inside the file; got {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._blob.read(self._at, len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
