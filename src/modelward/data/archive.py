"""Reading uploaded zip archives without trusting a byte of them.

The standard library's reader loads the whole directory before anything can be checked, follows
the first of several contradicting records, and knows no limits. This reader walks the directory
as a stream, refuses what an honest archive never holds, and reads entries up to a given number of
bytes. Layout: APPNOTE.TXT 6.3.10 (PKWARE), sections 4.3 and 4.5.3.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from modelward.data.directory import DEFLATED, Entry, find_directory, not_a_zip, walk
from modelward.domain import InvalidInputError, PayloadTooLargeError

__all__ = ["Archive", "ArchiveListing", "Entry", "inspect_archive"]

MAX_TOTAL_BYTES = 4 * 2**30
MAX_RATIO = 200
ENTRY_ALLOWANCE = 10 * 2**20
"""Bytes that one entry may unpack to whatever its ratio: blank images compress very well."""
TOTAL_ALLOWANCE = 100 * 2**20

_CHUNK = 64 * 2**10
_LOCAL = struct.Struct("<4s5H3L2H")


@dataclass(frozen=True)
class ArchiveListing:
    """What an archive holds, as its checked directory says."""

    entries: tuple[Entry, ...]

    @property
    def files(self) -> tuple[Entry, ...]:
        """The entries that are files."""
        return tuple(entry for entry in self.entries if not entry.is_dir)

    @property
    def total_size(self) -> int:
        """Declared bytes of all files together."""
        return sum(entry.size for entry in self.entries)


def inspect_archive(path: Path) -> ArchiveListing:
    """Check a zip archive by its directory alone; nothing is unpacked.

    Memory is bounded by the limits on the directory (64 MiB, 100,000 entries), not by the file.

    Args:
        path: The uploaded file.

    Returns:
        The entries, their names safe to join to a folder.

    Raises:
        InvalidInputError: No readable zip, an entry that is encrypted, no plain file or of an
            unknown compression, a name that leaves the archive or occurs twice.
        PayloadTooLargeError: More entries or bytes than allowed, or a compression ratio that only
            a decompression bomb has.
    """
    with path.open("rb") as file:
        length = path.stat().st_size
        directory = find_directory(file, length)
        listing = ArchiveListing(tuple(walk(file, directory)))
    if not listing.files:
        raise InvalidInputError("archive: expected at least one file; got an empty archive")
    _check_names(listing)
    _check_sizes(listing, length)
    _check_overlap(listing, directory.offset)
    return listing


class Archive:
    """An inspected archive, open for reading entries.

    Use as a context manager. ``listing`` holds the entries. Opening raises what
    ``inspect_archive`` raises.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listing = inspect_archive(path)
        self._file = path.open("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, entry: Entry, limit: int) -> bytes:
        """The first ``limit`` bytes of an entry, all of it where it is smaller.

        The checksum is verified only where the whole entry is read.

        Raises:
            InvalidInputError: The entry is damaged.
        """
        parts: list[bytes] = []
        left = limit
        for part in self.stream(entry):
            parts.append(part[:left])
            left -= len(parts[-1])
            if left <= 0:
                break
        return b"".join(parts)

    def stream(self, entry: Entry) -> Iterator[bytes]:
        """Unpack an entry piece by piece, never more than it declares.

        Raises:
            InvalidInputError: The entry is damaged: wrong size, checksum or compressed data.
        """
        crc = length = 0
        for part in self._unpack(entry):
            length += len(part)
            if length > entry.size:
                raise _damaged(entry, f"more than the {entry.size} bytes that it declares")
            crc = zlib.crc32(part, crc)
            yield part
        if length != entry.size:
            raise _damaged(entry, f"{length} bytes instead of the {entry.size} that it declares")
        if crc != entry.crc:
            raise _damaged(entry, "a wrong checksum")

    def _unpack(self, entry: Entry) -> Iterator[bytes]:
        self._file.seek(entry.offset)
        head = self._file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            raise _damaged(entry, "no local header where the directory points to")
        name_length, extra_length = _LOCAL.unpack(head)[-2:]
        self._file.seek(name_length + extra_length, 1)
        left = entry.compressed_size
        inflate = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == DEFLATED else None
        while left > 0:
            raw = self._file.read(min(left, _CHUNK))
            if not raw:
                raise _damaged(entry, "a premature end")
            left -= len(raw)
            if inflate is None:
                yield raw
                continue
            while raw and not inflate.eof:
                part = _inflated(entry, inflate, raw)
                raw = inflate.unconsumed_tail
                if part:
                    yield part
        while inflate is not None and not inflate.eof:
            # output that was held back by the chunk limit when the input ran out
            part = _inflated(entry, inflate, b"")
            if not part:
                break
            yield part


def _inflated(entry: Entry, inflate: "zlib._Decompress", raw: bytes) -> bytes:
    """At most a chunk; what of ``raw`` was not used is in ``unconsumed_tail``."""
    try:
        return inflate.decompress(raw, _CHUNK)
    except zlib.error as error:
        raise _damaged(entry, f"broken compressed data ({error})") from None


def _damaged(entry: Entry, found: str) -> InvalidInputError:
    return InvalidInputError(
        f"archive entry {entry.name!r}: expected intact data; got {found}; make the zip again"
    )


def _check_names(listing: ArchiveListing) -> None:
    seen: set[str] = set()
    for entry in listing.files:
        if entry.name in seen:
            raise InvalidInputError(
                f"archive entry {entry.name!r}: expected every name once; got it twice"
            )
        seen.add(entry.name)


def _check_sizes(listing: ArchiveListing, length: int) -> None:
    for entry in listing.entries:
        if entry.size > ENTRY_ALLOWANCE + MAX_RATIO * entry.compressed_size:
            raise PayloadTooLargeError(
                f"archive entry {entry.name!r}: expected a compression ratio of at most "
                f"{MAX_RATIO}; got {entry.size} bytes from {entry.compressed_size}"
            )
    total = listing.total_size
    if total > MAX_TOTAL_BYTES:
        raise PayloadTooLargeError(
            f"archive: expected at most {MAX_TOTAL_BYTES} bytes after unpacking; got {total}"
        )
    if total > TOTAL_ALLOWANCE + MAX_RATIO * length:
        raise PayloadTooLargeError(
            f"archive: expected a compression ratio of at most {MAX_RATIO}; got {total} bytes "
            f"from {length}"
        )


def _check_overlap(listing: ArchiveListing, directory_offset: int) -> None:
    """Refuse entries that share bytes: that is how small archives declare huge contents."""
    end = 0
    for entry in sorted(listing.entries, key=lambda entry: entry.offset):
        if entry.offset < end:
            raise not_a_zip(f"entry {entry.name!r} overlapping another one")
        end = entry.offset + _LOCAL.size + entry.compressed_size
    if end > directory_offset:
        raise not_a_zip("entries that overlap the directory")
