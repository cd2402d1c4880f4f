"""A bounded walk over protobuf messages; nothing is built, large fields are only located.

Wire format: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from typing import NamedTuple

from modelward.scan.blob import Blob
from modelward.scan.limits import Budget, UnreadableError

__all__ = ["BYTES", "FIXED32", "VARINT", "Field", "Message", "top_level_fields"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire: int
    value: int
    """The number, or for wire type 2 the length."""
    offset: int
    """Where the content starts, in the message's blob."""


class Message:
    """A message inside a blob.

    Args:
        blob: The bytes.
        offset: Where the message starts.
        size: Its length.
        budget: Pays for every field.
    """

    def __init__(self, blob: Blob, offset: int, size: int, budget: Budget) -> None:
        if offset + size > blob.size:
            raise UnreadableError(f"a message of {size} bytes at byte {offset} is cut off")
        self.blob, self.offset, self.size, self._budget = blob, offset, size, budget
        # small messages are read at once, large ones only where a field starts
        self._content = blob.read(offset, size) if size <= 2**16 else None

    def fields(self, *once: int) -> Iterator[Field]:
        """The fields in order.

        Args:
            once: Numbers of fields that hold one value. Where one comes twice, readers merge the
                two, so that neither is the whole of it; no honest program writes that.

        Raises:
            UnreadableError: Bytes that are no protobuf message, a message that is cut off, or a
                field that comes twice.
        """
        at, end = 0, self.size
        seen: set[int] = set()
        while at < end:
            self._budget.spend("nodes")
            key, at = self._varint(at)
            number, wire = key >> 3, key & 7
            if not number:
                raise self._broken(at)
            if wire == VARINT:
                value, after = self._varint(at)
                start, at = at, after
            elif wire == BYTES:
                value, at = self._varint(at)
                start, at = at, at + value
            elif wire in (FIXED64, FIXED32):
                length = 8 if wire == FIXED64 else 4
                value = int.from_bytes(self._read(at, length), "little")
                start, at = at, at + length
            else:
                raise self._broken(at)
            if at > end:
                raise self._broken(at)
            if number in once:
                if number in seen:
                    raise UnreadableError(f"field {number} twice at byte {self.offset + start}")
                seen.add(number)
            yield Field(number, wire, value, self.offset + start)

    def child(self, field: Field) -> "Message":
        """The message in a field of wire type 2."""
        if field.wire != BYTES:
            raise self._broken(field.offset - self.offset)
        return Message(self.blob, field.offset, field.value, self._budget)

    def text(self, field: Field, limit: int = 4096) -> str:
        """The text in a field of wire type 2, cut at ``limit`` bytes."""
        return self.data(field, limit).decode("utf-8", "replace")

    def data(self, field: Field, limit: int = 4096) -> bytes:
        """The bytes in a field of wire type 2, cut at ``limit``.

        Raises:
            UnreadableError: A number stands there, which other readers leave out.
        """
        if field.wire != BYTES:
            raise self._broken(field.offset - self.offset)
        return self.blob.read(field.offset, min(field.value, limit))

    def _read(self, at: int, size: int) -> bytes:
        if self._content is not None:
            return self._content[at : at + size]
        return self.blob.read(self.offset + at, min(size, self.size - at))

    def _varint(self, at: int) -> tuple[int, int]:
        raw = self._read(at, 10)
        value = 0
        for index, byte in enumerate(raw):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value & (2**64 - 1), at + index + 1
        raise self._broken(at)

    def _broken(self, at: int) -> UnreadableError:
        return UnreadableError(f"no readable protobuf message at byte {self.offset + at}")


def top_level_fields(blob: Blob, most: int) -> dict[int, int]:
    """Numbers and wire types of a message's fields; empty where the bytes are no message.

    Args:
        blob: The bytes.
        most: Different fields after which no known message is meant.
    """
    from modelward.scan.limits import Limits

    found: dict[int, int] = {}
    try:
        for field in Message(blob, 0, blob.size, Budget(Limits(nodes=200_000))).fields():
            found[field.number] = field.wire
            if len(found) > most:
                return {}
    except UnreadableError:
        return {}
    return found
