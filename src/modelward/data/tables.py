"""Csv text inside an archive, read row by row: memory does not grow with the table."""

import csv
import io
from codecs import getincrementaldecoder
from collections.abc import Iterator

from modelward.data.archive import Archive
from modelward.data.directory import Entry
from modelward.domain import InvalidInputError, PayloadTooLargeError

__all__ = ["Row", "first_line", "rows"]

MAX_CSV_BYTES = 32 * 2**20
MAX_ROW = 2**20
"""Characters of one row. csv bounds a field (131,072), but neither their number nor a line."""
MAX_LINES = 1_000_000
"""With the empty ones; ten times as many as there may be images."""
HEAD_BYTES = 64 * 2**10
"""The first line stands in these."""

_ENCODINGS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig"))

Row = tuple[int, list[str]]
"""Number of the line that it ends on, and its fields."""


def first_line(archive: Archive, entry: Entry) -> str:
    """The first line that is not empty, as far as it stands in the first 64 KiB.

    Raises:
        InvalidInputError: The entry is damaged.
        PayloadTooLargeError: It is larger than a table may be.
    """
    if entry.size > MAX_CSV_BYTES:
        raise PayloadTooLargeError(
            f"label: expected a csv of at most {MAX_CSV_BYTES} bytes; got {entry.size} bytes in "
            f"{entry.name!r}"
        )
    raw = archive.read(entry, HEAD_BYTES)
    try:
        # not final: the last character may be cut in two
        text = getincrementaldecoder(_declared(raw))().decode(raw)
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = text.lstrip("\r\n").splitlines()
    return lines[0] if lines else ""


def rows(archive: Archive, entry: Entry, delimiter: str) -> Iterator[Row]:
    """The rows that are not empty; the first one is the header.

    Raises:
        InvalidInputError: The entry is damaged, no text, no csv, or one of its rows is longer
            than any row of a table.
    """
    with io.TextIOWrapper(
        io.BufferedReader(_Stream(archive, entry)), _encoding(archive, entry), newline=""
    ) as text:
        lines = _Lines(text, entry.name)
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        try:
            for row in reader:
                lines.used = 0
                if any(field.strip() for field in row):
                    yield reader.line_num, row
        except csv.Error as error:
            raise InvalidInputError(
                f"label: expected a readable csv; got {error} in row {reader.line_num} of "
                f"{entry.name!r}"
            ) from None


def _declared(raw: bytes) -> str:
    return next(encoding for mark, encoding in _ENCODINGS if raw.startswith(mark))


def _encoding(archive: Archive, entry: Entry) -> str:
    """What the whole table decodes by.

    Latin-1 never fails; where a table without a mark is no UTF-8, its names are compared as they
    are.
    """
    declared = _declared(archive.read(entry, 4))
    decoder = getincrementaldecoder(declared)()
    try:
        for part in archive.stream(entry):
            decoder.decode(part)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        if declared == "utf-16":
            raise InvalidInputError(
                f"label: expected {entry.name!r} to be text in UTF-16, as its first bytes say; got "
                f"damaged text ({error.reason})"
            ) from None
        return "latin-1"
    return declared


class _Stream(io.RawIOBase):
    """An entry as a file object."""

    def __init__(self, archive: Archive, entry: Entry) -> None:
        self._parts = archive.stream(entry)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._left = part
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class _Lines:
    """Lines of a text; ``used`` counts characters until it is set back."""

    def __init__(self, text: io.TextIOWrapper, name: str) -> None:
        self._text = text
        self._name = name
        self._count = 0
        self.used = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_ROW + 1)
        self.used += len(line)
        if self.used > MAX_ROW:
            raise InvalidInputError(
                f"label: expected rows of at most {MAX_ROW} characters in {self._name!r}; got a "
                "longer one; look for a quote that is not closed"
            )
        if not line:
            raise StopIteration
        self._count += 1
        if self._count > MAX_LINES:
            raise PayloadTooLargeError(
                f"label: expected at most {MAX_LINES} lines in {self._name!r}; got more"
            )
        return line
