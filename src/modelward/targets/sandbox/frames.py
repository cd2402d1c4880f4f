"""Messages across the wall: a header of fixed size and plain numbers or text, never objects.

Header, little-endian: magic ``MWSB``, kind (1 text, 2 array, 3 error), code of the dtype, number
of axes, a zero, sequence number (uint32), four sides (uint32), bytes that follow (uint64). What
comes out of the sandbox may lie in every field; ``check_head`` and ``check_array`` decide what is
believed before a byte of the content is read.
"""

import json
import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelward.domain import AssessmentError

__all__ = [
    "ARRAY",
    "ERROR",
    "HEADER",
    "TEXT",
    "Head",
    "check_head",
    "pack",
    "read_array",
    "read_hello",
    "text",
]

HEADER = struct.Struct("<4sBBBBI4IQ")
MAGIC = b"MWSB"
TEXT, ARRAY, ERROR = 1, 2, 3
DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<i8"), 3: np.dtype("<f8")}
MOST_TEXT = 64_000
MOST_COLUMNS = 10_000
"""Numbers per row of an answer; as many classes as a payload may name."""


class Head(NamedTuple):
    """A checked header."""

    kind: int
    code: int
    shape: tuple[int, ...]
    length: int


def pack(kind: int, number: int, content: bytes | NDArray[Any]) -> bytes:
    """A frame for the sandbox.

    Args:
        kind: TEXT or ARRAY.
        number: Sequence number; the answer must carry the same.
        content: UTF-8 text, or float32 or float64 of at most four axes.
    """
    if isinstance(content, bytes):
        return HEADER.pack(MAGIC, kind, 0, 0, 0, number, 0, 0, 0, 0, len(content)) + content
    code = 3 if content.dtype == np.float64 else 1
    raw = np.ascontiguousarray(content, DTYPES[code]).tobytes()
    sides = (*content.shape, 0, 0, 0, 0)[:4]
    return HEADER.pack(MAGIC, kind, code, content.ndim, 0, number, *sides, len(raw)) + raw


def check_head(raw: bytes, number: int, *, wanted: int, rows: int) -> Head:
    """Decide whether a header is one that an honest child would send now.

    Args:
        raw: The bytes.
        number: Sequence number of the question.
        wanted: TEXT or ARRAY; an ERROR is always possible.
        rows: Rows that an array must have.

    Raises:
        AssessmentError: The header is none, answers another question, or announces more than an
            answer can hold.
    """
    magic, kind, code, rank, zero, sequence, *sides, length = HEADER.unpack(raw)
    if magic != MAGIC or zero:
        raise _malformed("a message that does not start as one")
    if kind not in (wanted, ERROR):
        raise _malformed(f"a message of kind {kind}")
    if sequence != number:
        raise _malformed(f"an answer to question {sequence} instead of {number}")
    if kind != ARRAY:
        if length > MOST_TEXT:
            raise _malformed(f"a text of {length} bytes")
        return Head(kind, 0, (), length)
    shape = _checked_shape(code, rank, tuple(sides), rows)
    if length != math.prod(shape) * DTYPES[code].itemsize:
        raise _malformed(f"{length} bytes for an array of {shape}")
    return Head(kind, code, shape, length)


def _checked_shape(code: int, rank: int, sides: tuple[int, ...], rows: int) -> tuple[int, ...]:
    if code not in DTYPES:
        raise _malformed(f"numbers of unknown type {code}")
    if not 1 <= rank <= 4 or any(sides[rank:]):
        raise _malformed(f"an array of {rank} axes")
    shape = sides[:rank]
    if shape[0] != rows or not 1 <= math.prod(shape[1:]) <= MOST_COLUMNS:
        raise AssessmentError(
            f"model: expected {rows} rows of 1 to {MOST_COLUMNS} numbers; its answer has the "
            f"shape {shape}"
        )
    return shape


def read_array(head: Head, content: bytes) -> NDArray[Any]:
    """Numbers of a checked array frame, (rows, columns)."""
    values: NDArray[Any] = np.frombuffer(content, DTYPES[head.code])
    return values.reshape(head.shape[0], -1)


def text(content: bytes, limit: int = 300) -> str:
    """One printable line of what the model wrote."""
    line = " ".join(content.decode("utf-8", "replace").split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return printable if len(printable) <= limit else printable[:limit] + "..."


def read_hello(content: bytes) -> dict[str, Any]:
    """What the child says of the model it loaded; every value is checked.

    Returns:
        ``framework`` (text), ``input`` (list of sizes with None for any, or None where unknown),
        ``classes`` (number or None), ``notes`` (texts), and the rest as it came.

    Raises:
        AssessmentError: No JSON object, or a value of the wrong kind.
    """
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        raise _malformed("a description that is no JSON") from None
    if not isinstance(said, dict):
        raise _malformed("a description that is no JSON object")
    notes = said.get("notes", [])
    if not isinstance(notes, list) or len(notes) > 10 or not all(isinstance(n, str) for n in notes):
        raise _malformed("notes that are no texts")
    framework = said.get("framework", "")
    classes = said.get("classes")
    if not isinstance(framework, str) or not (classes is None or _is_size(classes)):
        raise _malformed("a description out of shape")
    taken = said.get("input")
    if taken is not None and not (
        isinstance(taken, list)
        and len(taken) <= 4
        and all(side is None or _is_size(side) for side in taken)
    ):
        raise _malformed("an input shape that is none")
    checked = {
        "framework": text(framework.encode("utf-8", "replace"), 100),
        "notes": [text(note.encode("utf-8", "replace")) for note in notes],
        "classes": classes,
        "input": taken,
    }
    return {**said, **checked}


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _malformed(found: str) -> AssessmentError:
    return AssessmentError(
        f"model: expected an answer out of the sandbox in the agreed form; got {found}; the model "
        "writes where only its predictions belong"
    )
