"""Reads analysis parameters off the files: image size from a header, classes from the labels.

The SDK has no imaging library, so PNG and JPEG headers are parsed here. Nothing is decoded.
"""

import csv
import io
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from modelward.client.archives import is_image_name
from modelward.domain import InvalidInputError

__all__ = ["count_classes", "image_shape", "read_image_header"]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
"""Colour type to channels without alpha; a palette (3) decodes to colours."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers that start a frame; the three exceptions are tables."""
_DELIMITERS = ",;\t|"
_COLUMNS = frozenset({"image", "label"})
_CLASS_NUMBER = re.compile(r"[0-9]+(\.0*)?")
"""Tables that went through floating point write ``3.0``; the service reads it as 3."""


def image_shape(data_zip: Path) -> tuple[tuple[int, int, int], str]:
    """Read the shape of the first image in an archive.

    Returns:
        (height, width, channels) with 1 or 3 channels, and the name of the image.

    Raises:
        InvalidInputError: No image, or none whose header can be read here.
    """
    with _open_zip(data_zip, "data") as archive:
        names = sorted(n for n in archive.namelist() if not n.endswith("/") and is_image_name(n))
        if not names:
            raise InvalidInputError(f"data: expected images in {data_zip.name}, found none")
        with archive.open(names[0]) as file:
            shape = read_image_header(file)  # type: ignore[arg-type]
    if shape is None:
        raise InvalidInputError(
            f"the image size cannot be read from {names[0]}: expected a PNG or JPEG header. "
            "Give the input dimensions (--input-dimensions '(height, width, channels)')."
        )
    return shape, names[0]


def read_image_header(file: BinaryIO) -> tuple[int, int, int] | None:
    """Read height, width and channels (1 or 3) from a PNG or JPEG header; None for others."""
    head = file.read(2)
    if head == b"\xff\xd8":
        return _jpeg(file)
    head += file.read(24)
    if len(head) == 26 and head.startswith(_PNG) and head[12:16] == b"IHDR":
        width, height = struct.unpack(">II", head[16:24])
        channels = _PNG_CHANNELS.get(head[25])
        if channels and width and height:
            return height, width, channels
    return None


def count_classes(label_zip: Path) -> tuple[int, str]:
    """Count the classes as largest label + 1.

    Returns:
        The number of classes, at least 2, and the name of the csv.

    Raises:
        InvalidInputError: No csv, no column ``label``, or labels that are no class numbers.
    """
    with _open_zip(label_zip, "labels") as archive:
        names = sorted(
            n for n in archive.namelist() if n.lower().endswith(".csv") and "__MACOSX" not in n
        )
        if not names:
            raise InvalidInputError(f"labels: expected a csv in {label_zip.name}, found none")
        text = _decoded(archive.read(names[0]), names[0]).lstrip("\r\n")
    largest = _largest_label(text, names[0])
    return max(largest + 1, 2), names[0]


def _decoded(raw: bytes, name: str) -> str:
    """The text of a table, by the rules of the service: UTF-8, UTF-16 by its mark, or Latin-1."""
    try:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return raw.decode("utf-16")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise InvalidInputError(f"{name}: expected csv text in UTF-16, got {error}") from error
        return raw.decode("latin-1")


def _delimiter(head: str) -> str:
    """What separates the two columns in the first line; a comma where none of them does."""
    for delimiter in _DELIMITERS:
        fields = {field.strip().strip("\"'").strip().lower() for field in head.split(delimiter)}
        if fields >= _COLUMNS:
            return delimiter
    return ","


def _largest_label(text: str, name: str) -> int:
    largest = -1
    head = next((line for line in text.splitlines() if line.strip()), "")
    try:
        rows = csv.DictReader(
            io.StringIO(text, newline=""), delimiter=_delimiter(head), skipinitialspace=True
        )
        column = {c.strip().strip("'").lower(): c for c in rows.fieldnames or ()}.get("label")
        if column is None:
            raise InvalidInputError(
                f"{name}: expected the columns image,label; got {', '.join(rows.fieldnames or ())}"
            )
        for row in rows:
            if not any(str(value or "").strip() for value in row.values()):
                continue
            value = (row[column] or "").strip()
            if not _CLASS_NUMBER.fullmatch(value):
                raise InvalidInputError(
                    f"{name}, line {rows.line_num}: expected a class number from 0, got "
                    f"{value[:60]!r}; number the classes in the order of the model's outputs"
                )
            largest = max(largest, int(value.partition(".")[0][:9]))
    except csv.Error as error:
        raise InvalidInputError(f"{name}: expected readable csv text, got {error}") from error
    if largest < 0:
        raise InvalidInputError(f"{name}: expected at least one row, got none")
    return largest


def _jpeg(file: BinaryIO) -> tuple[int, int, int] | None:
    while True:
        byte = file.read(1)
        while byte == b"\xff":  # fill bytes may stand before a marker
            byte = file.read(1)
        if not byte:
            return None
        marker = byte[0]
        size = file.read(2)
        if len(size) < 2:
            return None
        (length,) = struct.unpack(">H", size)
        if marker in _JPEG_FRAMES:
            frame = file.read(6)
            if len(frame) < 6:
                return None
            _, height, width, components = struct.unpack(">BHHB", frame)
            return (height, width, 1 if components == 1 else 3) if height and width else None
        if length < 2 or len(file.read(length - 2)) < length - 2:
            return None
        if file.read(1) != b"\xff":
            return None


@contextmanager
def _open_zip(path: Path, what: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise InvalidInputError(
            f"{what}: expected a readable zip, {path.name} is not: {error}"
        ) from error
