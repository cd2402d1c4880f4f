"""Decompression with bounds on size and ratio, into a temporary file."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Any

from modelward.scan.blob import Blob
from modelward.scan.limits import LimitReachedError
from modelward.scan.scanner import Scanner

__all__ = ["inflate", "unpack"]

_STEP = 2**18


def inflate(scanner: Scanner, raw: Blob, bits: int) -> tuple[IO[bytes], int, int, bool]:
    """Unpack one deflate stream.

    Args:
        scanner: Pays for the bytes.
        raw: The packed bytes.
        bits: As ``zlib.decompressobj`` takes them.

    Returns:
        A temporary file, its size, the checksum of its content, and whether the stream ended where
        the packed bytes end. A broken stream gives what came out before it broke.

    Raises:
        LimitReachedError: It unpacks to more than the scan allows.
    """
    engine = zlib.decompressobj(bits)
    out = scanner.spool()
    size = crc = used = 0
    try:
        for chunk in raw.chunks():
            used += len(chunk)
            left = chunk
            while left and not engine.eof:
                piece = engine.decompress(left, _STEP)
                left = engine.unconsumed_tail
                out.write(piece)
                size, crc = size + len(piece), zlib.crc32(piece, crc)
                charge(scanner, len(piece), size, used)
        while not engine.eof and (piece := engine.decompress(b"", _STEP)):
            out.write(piece)
            size, crc = size + len(piece), zlib.crc32(piece, crc)
            charge(scanner, len(piece), size, used)
    except zlib.error:
        return out, size, crc, False
    except LimitReachedError:
        out.close()
        raise
    return out, size, crc, engine.eof and not engine.unused_data


def charge(scanner: Scanner, amount: int, size: int, used: int) -> None:
    """Pay for unpacked bytes.

    Raises:
        LimitReachedError: The stream, or all of them, unpack to more than the scan allows.
    """
    scanner.budget.spend("unpacked_bytes", amount)
    limits = scanner.limits
    if size > limits.allowance and size > limits.ratio * used:
        raise LimitReachedError(f"a compression ratio above {limits.ratio}: a decompression bomb")


_ENGINES: dict[str, Any] = {
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "zlib": zlib.decompressobj,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**28),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2**28),
}


def unpack(scanner: Scanner, raw: Blob, kind: str) -> tuple[IO[bytes], int, str | None]:
    """Unpack a compressed file, all of its streams in a row.

    Returns:
        A temporary file, its size, and what is wrong with it; None: nothing.

    Raises:
        LimitReachedError: It unpacks to more than the scan allows.
    """
    out = scanner.spool()
    size = used = 0
    engine = _ENGINES[kind]()
    try:
        for chunk in raw.chunks():
            used += len(chunk)
            left = chunk
            while left:
                if engine.eof:
                    left = left.lstrip(b"\0")  # padding, which gzip allows between streams, too
                    if not left:
                        break
                    engine = _ENGINES[kind]()
                for piece in _pieces(engine, left):
                    out.write(piece)
                    size += len(piece)
                    charge(scanner, len(piece), size, used)
                left = engine.unused_data if engine.eof else b""
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        return out, size, f"broken compressed data ({error})"
    except LimitReachedError:
        out.close()
        raise
    return out, size, None if engine.eof else "the compressed data is cut off"


def _pieces(engine: Any, chunk: bytes) -> Iterator[bytes]:
    """What one chunk unpacks to, a bounded piece at a time."""
    yield engine.decompress(chunk, _STEP)
    if hasattr(engine, "unconsumed_tail"):  # zlib
        while engine.unconsumed_tail and not engine.eof:
            yield engine.decompress(engine.unconsumed_tail, _STEP)
        while not engine.eof and (piece := engine.decompress(b"", _STEP)):
            yield piece
    else:
        while not engine.eof and not engine.needs_input:
            yield engine.decompress(b"", _STEP)
