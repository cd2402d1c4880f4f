"""Image sizes from the first bytes of a file, without an image decoder.

The service process checks sizes with these few lines; decoders, which are a classic way into a
process, run in the worker only.
"""

import struct
from typing import NamedTuple

__all__ = ["FORMATS", "ImageHeader", "read_header"]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
"""Formats that are read, as Pillow spells them."""

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MOST_MARKERS = 1000
"""Before the size of a JPEG, fill bytes included; 4 MiB of the longest segments are 64."""
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


class ImageHeader(NamedTuple):
    """Format and size of one image."""

    format: str
    height: int
    width: int


def read_header(head: bytes) -> ImageHeader | None:
    """Read format and size.

    Args:
        head: The first bytes of the file. 32 are enough but for JPEG, whose size stands behind
            metadata of any length.

    Returns:
        The header, or None where ``head`` ends before the size.

    Raises:
        ValueError: Not one of ``FORMATS``; the message says what it looks like.
    """
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            if head[12:16] != b"IHDR" and len(head) >= 16:
                raise ValueError("a damaged PNG")
            width, height = struct.unpack_from(">2L", head, 16)
            return ImageHeader("PNG", height, width)
        if head.startswith(b"\xff\xd8\xff"):
            return _jpeg(head)
        if head.startswith(b"BM"):
            return _bmp(head)
        if head.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<2H", head, 6)
            return ImageHeader("GIF", height, width)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp(head)
    except struct.error:
        return None
    if head.startswith((b"II*\0", b"MM\0*")):
        raise ValueError("a TIFF")
    raise ValueError("something else" if head else "an empty file")


def _jpeg(head: bytes) -> ImageHeader:
    at = 2
    for _ in range(_MOST_MARKERS):
        fill, marker = struct.unpack_from(">2B", head, at)
        if fill != 0xFF:
            raise ValueError("a damaged JPEG")
        if marker == 0xFF:  # fill byte before a marker
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">2H", head, at + 5)
            return ImageHeader("JPEG", height, width)
        elif marker in (0xD9, 0xDA):
            raise ValueError("a JPEG without a size")
        else:
            (length,) = struct.unpack_from(">H", head, at + 2)
            if length < 2:  # it counts itself
                raise ValueError("a damaged JPEG")
            at += 2 + length
    raise ValueError("a JPEG without a size among its first parts")


def _bmp(head: bytes) -> ImageHeader:
    (kind,) = struct.unpack_from("<L", head, 14)
    if kind == 12:
        width, height = struct.unpack_from("<2H", head, 18)
    else:
        width, height = struct.unpack_from("<2l", head, 18)
    return ImageHeader("BMP", abs(height), width)  # a negative height means top-down rows


def _webp(head: bytes) -> ImageHeader:
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<2H", head, 26)
        return ImageHeader("WEBP", height & 0x3FFF, width & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<L", head, 21)
        return ImageHeader("WEBP", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    if kind == b"VP8X":
        low, high, low2, high2 = struct.unpack_from("<HBHB", head, 24)
        return ImageHeader("WEBP", (low2 | high2 << 16) + 1, (low | high << 16) + 1)
    if len(kind) < 4:
        raise struct.error("cut off")
    raise ValueError("a damaged WEBP")
