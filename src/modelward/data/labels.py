"""The label table: one csv with the columns image and label, somewhere in an archive."""

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import groupby
from pathlib import PurePosixPath
from typing import NamedTuple

from modelward.data.archive import Archive
from modelward.data.directory import Entry
from modelward.data.names import extension, is_litter
from modelward.data.tables import first_line, rows
from modelward.domain import InvalidInputError, PayloadTooLargeError

__all__ = ["LabelledImage", "match_images", "read_labels"]

MAX_ROWS = 100_000
MAX_NAME = 1024
"""Characters of an image's name; archives hold none that are longer."""
MAX_TABLES = 100
"""Csv files that are looked into for the columns."""
SHOWN = 3
"""So many names are spelled out in a message, then the rest is counted."""

_DELIMITERS = ",;\t|"
_COLUMNS = ("image", "label")
_MOST_MARKS = 30
"""Marks on one letter: Unicode's stream-safe text has no more (UAX 15, definition 4)."""


class LabelledImage(NamedTuple):
    """One row of the label table, matched with its file."""

    name: str
    """As the table spells it."""
    label: int
    entry: Entry


def read_labels(archive: Archive, classes: int) -> dict[str, int]:
    """Find the label table and read it.

    Args:
        archive: Holds one csv at any depth.
        classes: Labels run from 0 to ``classes - 1``.

    Returns:
        Label by image name, in the order of the table.

    Raises:
        InvalidInputError: No csv or several, missing columns, a label that is no integer or
            outside the classes, an image with two labels.
        PayloadTooLargeError: The table is larger than allowed.
    """
    tables = [
        entry
        for entry in archive.listing.files
        if extension(entry.name) == ".csv" and not is_litter(entry.name)
    ]
    if not tables:
        raise InvalidInputError(
            "label: expected one csv with the columns image,label; got an archive with "
            f"{some(entry.name for entry in archive.listing.files)}"
        )
    if len(tables) > MAX_TABLES:
        raise InvalidInputError(f"label: expected one csv; got {some(e.name for e in tables)}")
    lines = {entry.name: first_line(archive, entry) for entry in tables}
    headed = [name for name, line in lines.items() if _columns(line)]
    if len(headed) > 1 or (not headed and len(tables) > 1):
        raise InvalidInputError(f"label: expected one csv; got {some(headed or lines)}")
    table = next(entry for entry in tables if not headed or entry.name == headed[0])
    return _labels(archive, table, lines[table.name], classes)


def match_images(labels: dict[str, int], entries: Iterable[Entry]) -> list[LabelledImage]:
    """Find the file of every labelled image.

    A name is looked up by its full path, then by the end of a path, then by the bare file name;
    ``train/0.jpg`` in the table finds ``data/0.jpg`` where there is only one ``0.jpg``. Files
    without a label are ignored.

    Raises:
        InvalidInputError: Images are missing (the first few are named), or a name fits several
            files.
    """
    known = _Names(entry for entry in entries if not is_litter(entry.name))
    found: list[LabelledImage] = []
    missing: list[str] = []
    for name, label in labels.items():
        candidates = known.find(_plain(name))
        if len(candidates) > 1:
            raise InvalidInputError(
                f"label: expected image {name!r} to name one file; got "
                f"{some(entry.name for entry in candidates)}; write the path into the csv"
            )
        if candidates:
            found.append(LabelledImage(name, label, candidates[0]))
        else:
            missing.append(name)
    if missing:
        raise InvalidInputError(
            f"data: expected every image of the label csv; missing {some(missing)} of "
            f"{len(labels)}; add them to the archive or remove their rows"
        )
    return found


class _Names:
    """Files by the ends of their paths.

    The paths are sorted as if written backwards, so that those with the same end are neighbours:
    a folder of any number of files with the same name is looked up as quickly as any other.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        pairs = [(_backwards(_plain(entry.name)), entry) for entry in entries]
        pairs.sort(key=lambda pair: pair[0])
        self._keys = [key for key, _ in pairs]
        self._entries = [entry for _, entry in pairs]

    def find(self, wanted: str) -> list[Entry]:
        """Files of this full path, else with this end, else with the same bare name."""
        full = _backwards(wanted)
        start, end = bisect_left(self._keys, full), bisect_right(self._keys, full)
        if start == end:
            start, end = self._ending(full)
        if start == end:
            start, end = self._ending(_backwards(wanted.rpartition("/")[2]))
        return self._entries[start:end]

    def _ending(self, key: str) -> tuple[int, int]:
        # a key ends with the slash before its first part, and no character is above this one
        return bisect_left(self._keys, key), bisect_right(self._keys, key + "\U0010ffff")


def _backwards(path: str) -> str:
    return ("/" + path)[::-1]


def some(names: Iterable[str]) -> str:
    """The first few names, then how many more."""
    listed = list(names)
    text = ", ".join(repr(name[:120]) for name in listed[:SHOWN])
    return text + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _plain(name: str) -> str:
    """One spelling of a path: forward slashes, no leading ``./``, composed characters."""
    path = str(PurePosixPath(name.strip().replace("\\", "/"))).lstrip("/")
    return path if path.isascii() else _composed(path)


def _composed(text: str) -> str:
    """Composed characters, but for text with absurdly many marks on one letter.

    Bringing these into order takes time that grows with the square of their number.
    """
    for mark, run in groupby(text, lambda letter: unicodedata.combining(letter) > 0):
        if mark and sum(1 for _ in run) > _MOST_MARKS:
            return text
    return unicodedata.normalize("NFC", text)


def _columns(header: str) -> tuple[str, int, int] | None:
    """Delimiter and places of the two columns, from the first line; None where one is missing."""
    for delimiter in _DELIMITERS:
        fields = [field.strip().strip("\"'").strip().lower() for field in header.split(delimiter)]
        if all(fields.count(column) == 1 for column in _COLUMNS):
            return delimiter, fields.index("image"), fields.index("label")
    return None


def _labels(archive: Archive, table: Entry, header: str, classes: int) -> dict[str, int]:
    name, places = table.name, _columns(header)
    if not places:
        raise InvalidInputError(
            f"label: expected the columns image,label in {name!r}; got the first line "
            f"{header[:120]!r}"
        )
    delimiter, image_at, label_at = places
    labels: dict[str, int] = {}
    body = rows(archive, table, delimiter)
    next(body, None)
    for number, row in body:
        where = f"label: row {number} of {name!r}"
        if len(row) <= max(image_at, label_at) or not row[image_at].strip():
            raise InvalidInputError(f"{where}: expected image and label; got {row[:4]!r:.120}")
        image, label = row[image_at].strip(), _label(where, row[label_at], classes)
        if len(image) > MAX_NAME:
            raise InvalidInputError(
                f"{where}: expected a name of at most {MAX_NAME} characters; got {len(image)}"
            )
        if labels.setdefault(image, label) != label:
            raise InvalidInputError(
                f"{where}: expected one label for image {image[:120]!r}; got {labels[image]} and "
                f"{label}"
            )
        if len(labels) > MAX_ROWS:
            raise PayloadTooLargeError(f"label: expected at most {MAX_ROWS} images; got more")
    if not labels:
        raise InvalidInputError(f"label: expected at least one image in {name!r}; got none")
    return labels


def _label(where: str, text: str, classes: int) -> int:
    """An integer label; tables that went through floating point write ``3.0``."""
    digits = text.strip()
    digits = digits[: digits.index(".")] if digits.rstrip("0").endswith(".") else digits
    label = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else -1
    if not 0 <= label < classes:
        raise InvalidInputError(
            f"{where}: expected a label from 0 to {classes - 1} (number_of_classes {classes}); got "
            f"{text.strip()[:60]!r}; number the classes in the order of the model's outputs, from "
            "0, or correct number_of_classes"
        )
    return label
