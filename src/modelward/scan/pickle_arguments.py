"""The arguments of pickle opcodes, read as the unpickler reads them, large ones only located."""

import os
import pickletools
from typing import IO, Any

from modelward.scan.pickle_stream import MAX_RAW, MIN_RAW, BrokenPickleError, Stream
from modelward.scan.pickle_values import NUMBER, TEXT, Raw

__all__ = ["Arguments"]

MAX_NAME = 2**16
MAX_LINE = 2**26
"""Protocol 0 writes whole arrays as one line."""
MAX_TEXT = 2**20
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


class Arguments:
    """Reads arguments from a file.

    Args:
        file: Seekable.
        stream: Takes note of byte strings.
    """

    def __init__(self, file: IO[bytes], stream: Stream) -> None:
        self._file, self._stream = file, stream
        self._size = file.seek(0, os.SEEK_END)
        file.seek(stream.start)

    def read(self, descriptor: Any) -> Any:
        """The argument that pickletools describes."""
        kind, size = descriptor.name, descriptor.n
        if size >= 0:
            content = self._take(size)
            if kind == "float8":
                return NUMBER
            return int.from_bytes(content, "little", signed=kind == "int4")
        if size == pickletools.UP_TO_NEWLINE:
            return (self._line(), self._line()) if "pair" in kind else self._line_value(kind)
        return self._sized(kind, int.from_bytes(self._take(_LENGTH_BYTES[size]), "little"))

    def _sized(self, kind: str, size: int) -> Any:
        """A value that follows its length; large ones are skipped, not read."""
        start = self._file.tell()
        if start + size > self._size:
            raise BrokenPickleError("the stream is cut off inside a value")
        if kind.startswith("long"):
            if size <= 64:
                return int.from_bytes(self._take(size), "little", signed=True)
            self._file.seek(start + size)
            return NUMBER
        is_text = kind.startswith(("unicode", "string"))
        if not kind.startswith("unicode") and MIN_RAW <= size and len(self._stream.raw) <= MAX_RAW:
            self._stream.raw.append(Raw(start, size))
        if not is_text or size > MAX_TEXT:
            self._file.seek(start + size)
            return TEXT if is_text else Raw(start, size)
        content = self._take(size)
        try:
            if kind.startswith("string"):
                return content.decode("latin-1")
            return content.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise BrokenPickleError("a text that is no UTF-8") from None

    def _line_value(self, kind: str) -> Any:
        line = self._line(MAX_LINE)
        if kind == "stringnl":
            if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
                raise BrokenPickleError("a text without quotes")
            return line[1:-1].encode("latin-1", "replace").decode("unicode_escape", "replace")
        if kind == "unicodestringnl":
            return line.encode("latin-1", "replace").decode("raw_unicode_escape", "replace")
        if kind == "stringnl_noescape":
            return line
        try:
            return int(line.rstrip("L"), 0) if len(line) < 400 else NUMBER
        except ValueError:
            try:
                return int(line)  # memo keys may be written as 010
            except ValueError:
                return NUMBER

    def _line(self, limit: int = MAX_NAME) -> str:
        line = self._file.readline(limit)
        if len(line) == limit:
            raise BrokenPickleError("a line without end")
        # at the end of the file Python's own unpickler, which joblib uses, cuts off any byte
        try:
            return line[:-1].decode("utf-8")
        except UnicodeDecodeError:
            return line[:-1].decode("latin-1")

    def _take(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise BrokenPickleError("the stream is cut off")
        return content
