"""Raw values: they have no format, so all that can be asked is whether something hides in them."""

from modelward.scan.blob import Blob
from modelward.scan.pickle_walk import walk
from modelward.scan.report import Level
from modelward.scan.scanner import Item, Scanner
from modelward.scan.sniff import ends_as_zip

__all__ = ["look_inside", "read"]

MAX_TEXT_PICKLE = 2**20
MAX_STREAMS = 64
_BINARY = (b"\x80\x00", b"\x80\x01", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PACKED = (
    b"\x1f\x8b\x08",
    b"BZh91AY&SY",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"\x89HDF\r\n\x1a\n",
    b"\x93NUMPY",
)


def read(scanner: Scanner, item: Item) -> None:
    """Pass raw values, unless they are a pickle or an archive."""
    look_inside(scanner, item, item.blob, f"{item.path}!content")


def look_inside(scanner: Scanner, item: Item, blob: Blob, path: str) -> None:
    """Scan bytes that may be values or something to load; values are not reported."""
    if blob.size < 4:
        return
    head = blob.read(0, 16)
    packed = head.startswith(_PACKED) or (head.startswith(b"PK\x03\x04") and ends_as_zip(blob))
    if packed or (head[:1] == b"x" and head[1:2] in b"\x01\x5e\x9c\xda" and _unpacks(blob)):
        scanner.scan(path, blob, item.depth + 1)
    elif head.startswith(_BINARY) or (
        head[:1] in (b"(", b"c", b"i", b"]", b"}", b"l", b"d") and blob.size <= MAX_TEXT_PICKLE
        and blob.read(blob.size - 1, 1) == b"."
    ):  # fmt: skip
        _pickle(scanner, item, blob, path)


def _pickle(scanner: Scanner, item: Item, blob: Blob, path: str) -> None:
    """Values start like a pickle now and then; a whole stream or a meaningful name tells."""
    with blob.open() as file:
        for _ in range(MAX_STREAMS):
            stream = walk(file, scanner.budget)
            names = [one for one in stream.globals.values() if one.level is Level.CRITICAL]
            holds = stream.globals or stream.calls or stream.raw or stream.encoded
            if (stream.broken is None and holds) or names:
                scanner.scan(path, blob, item.depth + 1)
                return
            if stream.broken or file.tell() >= blob.size:
                return


def _unpacks(blob: Blob) -> bool:
    import zlib

    try:
        return bool(zlib.decompressobj().decompress(blob.read(0, 4096), 256))
    except zlib.error:
        return False
