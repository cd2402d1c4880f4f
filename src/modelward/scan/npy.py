"""numpy's .npy files; an array of objects in one is a pickle. Format: numpy.lib.format."""

import ast
import math
import re
from typing import Any

from modelward.scan.limits import UnreadableError
from modelward.scan.scanner import Item, Scanner

__all__ = ["read"]

MAX_HEADER = 10_000
"""As numpy itself refuses longer ones."""


def read(scanner: Scanner, item: Item) -> None:
    """Check that header and length agree, and scan what an array of objects holds."""
    major = item.blob.read(6, 1)
    width = 2 if major == b"\x01" else 4
    if major not in (b"\x01", b"\x02", b"\x03"):
        raise UnreadableError(f"an unknown version of .npy ({major.hex()})")
    length = int.from_bytes(item.blob.read(8, width), "little")
    if length > MAX_HEADER:
        raise UnreadableError(f"a header of {length} bytes")
    start = 8 + width + length
    header = _header(item.blob.read(8 + width, length))
    itemsize = _itemsize(header.get("descr"))
    body = item.blob.window(start, item.blob.size - start)
    if itemsize is None:
        scanner.scan(f"{item.path}!objects", body, item.depth + 1)
        return
    shape = header.get("shape")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UnreadableError("a header without a plain shape")
    size = math.prod(shape) * itemsize
    if size != body.size:
        raise UnreadableError(f"{body.size} bytes of values where the header says {size}")


def _header(raw: bytes) -> dict[str, Any]:
    try:
        value = ast.literal_eval(raw.decode("latin-1").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise UnreadableError("a header that cannot be parsed") from None
    if not isinstance(value, dict):
        raise UnreadableError("a header that is no dictionary")
    return value


def _itemsize(descr: object) -> int | None:
    """Bytes of one value; None: Python objects."""
    if isinstance(descr, str):
        found = re.fullmatch(r"[<>=|]?([biufcmMSUVO?])(\d{0,9})(\[.*\])?", descr)
        if not found:
            raise UnreadableError(f"values of type {descr!r:.60}")
        if found[1] == "O":
            return None
        return int(found[2] or 1) * (4 if found[1] == "U" else 1)
    if isinstance(descr, list):
        total = 0
        for field in descr:
            inner = field[1] if isinstance(field, tuple) and len(field) in (2, 3) else None
            size = _itemsize(inner)
            if size is None:
                return None
            shape = field[2] if len(field) == 3 else ()
            total += size * math.prod(shape if isinstance(shape, tuple) else (shape,))
        return total
    raise UnreadableError(f"values of type {descr!r:.60}")
