"""joblib's arrays: raw values in the middle of a pickle, which its loader reads from the file.

Format: joblib, numpy_pickle.NumpyArrayWrapper. The length follows from the wrapper's state; where
that says anything but a plain array, the loader and the scan could disagree on it, so it is an
error.
"""

import math
from typing import IO, Any

from modelward.scan.pickle_stream import ARRAY_WRAPPER, BrokenPickleError, ContradictionError
from modelward.scan.pickle_values import NUMBER, Call, Group
from modelward.scan.pickle_walk import walk
from modelward.scan.scanner import Item, Scanner

__all__ = ["JoblibReader", "width_of"]

_KINDS = frozenset("biufcmMSUV")
_MAX_FIELDS = 64
_MOST_PARTS = 1000
"""Fields and their fields: a dtype may be used in many places, and so may those that use it."""
_MAX_DIMENSIONS = 64
_HAS_OBJECT = 1
"""Bit of a dtype's flags that makes joblib read a pickle instead of values."""


class JoblibReader:
    """Skips arrays, and walks those that are pickles themselves.

    Attributes:
        skipped: Arrays of numbers that were skipped.
        objects: Arrays of objects, each a pickle of its own in the middle of the outer one.
    """

    def __init__(self, scanner: Scanner, item: Item) -> None:
        self._scanner, self._item = scanner, item
        self.skipped = 0
        self.objects = 0

    def after_build(self, target: Call, file: IO[bytes]) -> Any:
        """Called when BUILD has finished an object.

        Returns:
            A stand-in for the array that takes the wrapper's place; None: no wrapper.

        Raises:
            ContradictionError: An array whose length cannot be told for sure.
        BrokenPickleError: An array that is cut off, or one of objects that breaks.
        """
        if not target.made_by(ARRAY_WRAPPER):
            return None
        state = target.state.table() if isinstance(target.state, Group) else None
        if state is None:
            raise ContradictionError("an array wrapper without a plain state")
        left = [_MOST_PARTS]
        width = width_of(state.get("dtype"), left=left)
        self._scanner.budget.spend("opcodes", _MOST_PARTS - left[0])
        if width is None:
            return self._object_array(file)
        shape = state.get("shape")
        if (
            not isinstance(shape, Group)
            or shape.kind != "tuple"
            or len(shape.items) > _MAX_DIMENSIONS
            or not all(isinstance(n, int) and 0 <= n < 2**48 for n in shape.items)
        ):
            raise ContradictionError("an array wrapper without a plain shape")
        if state.get("numpy_array_alignment_bytes") is not None:
            padding = file.read(1)
            file.seek(padding[0] if padding else 0, 1)
        size = math.prod(shape.items) * width
        at = file.tell()
        if at + size > self._item.blob.size:
            raise BrokenPickleError("an array that is cut off")
        file.seek(at + size)
        self.skipped += 1
        return NUMBER

    def _object_array(self, file: IO[bytes]) -> Any:
        from modelward.scan.pickle_scan import report_stream

        self.objects += 1
        inner = walk(file, self._scanner.budget, self.after_build)
        report_stream(self._scanner, self._item, inner)
        if inner.broken:
            raise BrokenPickleError(f"an array of objects breaks: {inner.broken}")
        return NUMBER


def width_of(dtype: Any, depth: int = 0, left: list[int] | None = None) -> int | None:
    """Bytes of one value of a numpy dtype as a pickle describes it; None: Python objects.

    Args:
        dtype: From a walk.
        depth: Dtypes around it.
        left: How many dtypes may still be looked at; counted down.

    Raises:
        ContradictionError: No plain dtype, or one that contradicts itself.
    """
    left = [_MOST_PARTS] if left is None else left
    left[0] -= 1
    if left[0] < 0:
        raise ContradictionError("a dtype of too many fields")
    kind, digits, code = _code(dtype, depth)
    if kind == "O":
        return None
    if kind not in _KINDS or not digits.isdecimal() or len(digits) > 9:
        raise ContradictionError(f"a dtype {code!r:.40} that is not a plain one")
    width = int(digits) * (4 if kind == "U" else 1)
    fields, flags = _state(dtype, width)
    if len(fields) > _MAX_FIELDS:
        raise ContradictionError("a dtype of too many fields")
    inner = [
        field.items[0] if isinstance(field, Group) and field.items else None for field in fields
    ]
    holds_objects = any(width_of(one, depth + 1, left) is None for one in inner)
    if holds_objects != bool(flags & _HAS_OBJECT):
        raise ContradictionError(f"a dtype {code!r:.40} whose flags contradict its fields")
    return None if holds_objects else width


def _state(dtype: Call, width: int) -> tuple[list[Any], int]:
    """Fields and flags of a dtype, from what BUILD gave it; numpy believes every word of it."""
    if dtype.state is None:
        return [], 0
    state = dtype.state.items if isinstance(dtype.state, Group) else []
    # version, byte order, subarray, names, fields, size, alignment, flags, metadata
    if len(state) not in (8, 9) or state[0] not in (3, 4) or state[2] is not None:
        raise ContradictionError("a dtype with an unusual state")
    if state[5] not in (-1, width) or not isinstance(state[7], int):
        raise ContradictionError("a dtype whose state gives it another size")
    if state[4] is None:
        return [], state[7]
    if not isinstance(state[4], Group) or state[4].kind != "dict":
        raise ContradictionError("a dtype with unusual fields")
    return state[4].items[1::2], state[7]


def _code(dtype: Any, depth: int) -> tuple[str, str, str]:
    """Kind, size and both together, as in numpy's type codes."""
    if not isinstance(dtype, Call) or not dtype.made_by("numpy.dtype") or depth > 4:
        raise ContradictionError("a dtype that is not made by numpy.dtype")
    items = dtype.args.items if isinstance(dtype.args, Group) else []
    code = items[0] if items else None
    if not isinstance(code, str):
        raise ContradictionError("a dtype without a code")
    bare = code.lstrip("<>=|")
    return bare[:1], bare[1:], code
