"""What a file is, by its content; a name is only what its sender claims."""

import re
import struct
import zlib
from pathlib import PurePosixPath

from modelward.scan.blob import Blob
from modelward.scan.limits import Budget, Limits, UnreadableError
from modelward.scan.protobuf import BYTES, FIXED32, VARINT, Message, top_level_fields

__all__ = ["PYTHON_MAGIC", "ends_as_zip", "is_zip_tail", "python_of", "sniff"]

_HEADS = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"]\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x93NUMPY", "npy"),
    (b"GGUF", "gguf"),
    (b"\x7fELF", "native"),
    (b"\xcf\xfa\xed\xfe", "native"),
    (b"\xce\xfa\xed\xfe", "native"),
    (b"\xfe\xed\xfa\xce", "native"),
    (b"\xfe\xed\xfa\xcf", "native"),
    (b"\xca\xfe\xba\xbe", "native"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF87a", "image"),
    (b"GIF89a", "image"),
    (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", "xgboost_ubj"),
)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TABLE_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_SOURCE = frozenset({".py", ".pyw", ".sh", ".bat", ".ps1", ".js"})
PYTHON_MAGIC = (
    (3000, "3.0"), (3141, "3.1"), (3160, "3.2"), (3190, "3.3"), (3250, "3.4"), (3320, "3.5"),
    (3360, "3.6"), (3390, "3.7"), (3400, "3.8"), (3420, "3.9"), (3430, "3.10"), (3450, "3.11"),
    (3500, "3.12"), (3550, "3.13"), (3600, "3.14"), (3650, "3.15"), (3700, None),
)  # fmt: skip
"""First magic number of each Python's bytecode (CPython, Python/import.c and its successors)."""


def sniff(blob: Blob, name: str = "") -> str:
    """Name the format of some bytes.

    Args:
        blob: The bytes.
        name: File name; only told apart with it: source code from other text.

    Returns:
        A short name such as ``zip``, ``pickle``, ``hdf5``, ``onnx``, ``text`` or ``unknown``.
    """
    if not blob.size:
        return "empty"
    head = blob.read(0, 512)
    for magic, found in _HEADS:
        if head.startswith(magic):
            return found
    return _binary(blob, head) or _text(blob, head, name) or "unknown"


def _binary(blob: Blob, head: bytes) -> str | None:
    offset = 0
    while offset < blob.size:  # a user block of any size may stand in front of HDF5
        if blob.read(offset, 8) == _HDF5:
            return "hdf5"
        offset = max(512, offset * 2)
    if head[:1] == b"\x80" and head[1:2] in (b"\0", b"\1", b"\2", b"\3", b"\4", b"\5"):
        return "pickle"
    if python_of(head) is not None:
        return "pyc"
    checks = (
        (head[4:8] == b"TFL3", "tflite"),
        (head[:4] == b"RIFF" and head[8:12] == b"WEBP", "image"),
        (head[:2] == b"BM" and head[2:6] == struct.pack("<L", blob.size % 2**32), "image"),
        (head[:2] == b"MZ" and b"\0" in head[:64], "native"),
        (_is_tar(head), "tar"),
        (_is_zlib(blob, head), "zlib"),
        (_is_safetensors(blob, head), "safetensors"),
        (blob.size > 48 and blob.read(blob.size - 8, 8) == _TABLE_MAGIC, "tf_checkpoint_index"),
    )
    for matches, found in checks:
        if matches:
            return found
    return _protobuf(blob)


def _text(blob: Blob, head: bytes, name: str) -> str | None:
    sample = blob.read(0, 2**16)
    if _BINARY.search(sample):
        return None
    try:
        text = sample.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4 or len(sample) < 2**16:
            return None
        text = sample[: error.start].decode("utf-8")
    if PurePosixPath(name).suffix.lower() in _SOURCE or text.startswith("#!"):
        return "source"
    start = text.lstrip("\ufeff \t\r\n")[:200]
    if start[:1] in ("{", "["):
        return "json"
    if start.startswith("<?xml") or re.match(r"<(!DOCTYPE|PMML)\b", start):
        return "xml"
    return "yaml" if PurePosixPath(name).suffix.lower() in (".yaml", ".yml") else "text"


def python_of(head: bytes) -> str | None:
    """The Python version whose bytecode this is, from the magic number; None: no bytecode."""
    if len(head) < 4 or head[2:4] != b"\r\n":
        return None
    magic = struct.unpack_from("<H", head)[0]
    if magic in (62211, 62171, 62161, 62131):
        return "2"
    found = None
    for first, version in PYTHON_MAGIC:
        if magic >= first:
            found = version
    return found


def _is_tar(head: bytes) -> bool:
    if len(head) < 512:
        return False
    try:
        stated = int(head[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return stated == sum(head[:148]) + sum(head[156:512]) + 8 * 32


def _is_zlib(blob: Blob, head: bytes) -> bool:
    if len(head) < 6 or head[0] & 0x0F != 8 or head[0] >> 4 > 7:
        return False
    if (head[0] << 8 | head[1]) % 31 or head[1] & 0x20:
        return False
    try:
        engine = zlib.decompressobj()
        out = engine.decompress(blob.read(0, 4096), 256)
    except zlib.error:
        return False
    return bool(out) or engine.eof


def _is_safetensors(blob: Blob, head: bytes) -> bool:
    if len(head) < 10 or head[8:9] != b"{":
        return False
    length = struct.unpack_from("<Q", head)[0]
    return bool(2 <= length <= min(blob.size - 8, 100_000_000))


def _protobuf(blob: Blob) -> str | None:
    """ONNX, SavedModel and friends have no magic number: their fields tell."""
    fields = top_level_fields(blob, 64)
    if not fields:
        return None
    if 7 in fields and fields.get(1) == 0 and fields[7] == 2:
        return "onnx"
    if fields.get(2) == 2 and fields.get(1) == 0 and set(fields) <= {1, 2}:
        return "savedmodel"
    if fields.get(1) == 2 and set(fields) <= {1, 2, 3, 4, 5}:
        if _is_piece(blob):
            return "sentencepiece"
        return "graphdef" if 5 not in fields else None
    return None


def _is_piece(blob: Blob) -> bool:
    """Whether the first entry is a piece of text with its score, where TensorFlow has a node.

    A node without an operator makes TensorFlow refuse the whole graph.
    """
    message = Message(blob, 0, blob.size, Budget(Limits(nodes=1000)))
    wires = {1: BYTES, 2: FIXED32, 3: VARINT}
    try:
        field = next(field for field in message.fields() if field.number == 1)
        found = [(inner.number, inner.wire) for inner in message.child(field).fields()]
    except (StopIteration, UnreadableError):
        return False
    return (2, FIXED32) in found and all(wires.get(number) == wire for number, wire in found)


def ends_as_zip(blob: Blob) -> bool:
    """Whether a reader that goes by the end of a file finds a zip archive, bytes behind it or not.

    zipfile takes the last end record among the last 64 KiB and does not ask what follows it.
    """
    size = min(blob.size, 22 + 0xFFFF)
    tail = blob.read(blob.size - size, size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > size:
        return False
    length, offset = struct.unpack_from("<2L", tail, at + 12)
    at += blob.size - size
    places = {at - length, offset, at - 76 - length}  # the last before a zip64 record
    return is_zip_tail(blob) is not None or any(
        blob.read(place, 4) == b"PK\x01\x02" for place in places
    )


def is_zip_tail(blob: Blob) -> int | None:
    """Where a zip archive's end record closes the file exactly; None: no zip ends here."""
    size = min(blob.size, 22 + 0xFFFF)
    tail = blob.read(blob.size - size, size)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + 22 <= size and at + 22 + struct.unpack_from("<H", tail, at + 20)[0] == size:
            return blob.size - size + at
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return None
