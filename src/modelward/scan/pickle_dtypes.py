"""numpy's dtypes in pickles: numpy believes their state, whatever it says.

A dtype that calls objects numbers, or numbers objects, makes numpy take bytes out of the file for
the addresses of objects; a field outside its record reads beyond the values. Both lead past the
list of harmless names, into the memory of the process. Layout of the state: numpy,
_core/src/multiarray/descriptor.c, arraydescr_reduce.
"""

import math
from typing import Any

from modelward.scan.pickle_values import Call, Global, Group

__all__ = ["dtype_problem"]

_COUNTED, _AS_LIST, _POINTER = 1, 2, 4
"""Flags of values that are objects: counted, pickled one by one, addresses."""
_PLAIN, _SIZED = frozenset("biufcmM"), frozenset("SUV")
_MOST_FIELDS = 2000


def dtype_problem(dtype: Call, state: Any) -> str | None:  # noqa: PLR0911 - one per reason
    """Why a state does not fit its dtype; None: it does.

    Args:
        dtype: Made by ``numpy.dtype``, before it gets the state.
        state: What BUILD is about to give it.
    """
    if dtype.state is not None:
        return "a dtype that is changed after it was made"
    items = state.items if isinstance(state, Group) else []
    if len(items) not in (8, 9) or items[0] not in (3, 4):
        return "a dtype with an unusual state"
    _, _, base, _, fields, size, _, flags = items[:8]
    kind, width = _kind(dtype)
    if not isinstance(flags, int) or not isinstance(size, int):
        return "a dtype whose size or flags are no numbers"
    if kind == "O":
        return None if flags & 3 == _COUNTED | _AS_LIST else "objects that are said to be numbers"
    if kind in _PLAIN:
        plain = size == -1 and base is None and fields is None
        return None if plain and not flags & 7 else "numbers that are said to be something else"
    if kind not in _SIZED or size < 0 or width not in (None, size):
        return "a dtype whose state gives it another size"
    parts = _parts(base, fields, size)
    if parts is None:
        return "a dtype with parts that lie outside of it"
    objects = any(_holds_objects(part) for part in parts)
    if bool(flags & _COUNTED) != objects or (objects and not flags & _AS_LIST):
        return "a dtype whose flags contradict its parts"
    return None if objects or not flags & _POINTER else "numbers that are said to be addresses"


def _holds_objects(dtype: Any) -> bool:
    """Whether a dtype that was checked itself holds objects."""
    if _kind(dtype)[0] == "O":
        return True
    state = dtype.state.items if isinstance(dtype, Call) and dtype.state is not None else []
    return bool(len(state) > 7 and isinstance(state[7], int) and state[7] & _COUNTED)


def _kind(dtype: Any) -> tuple[str, int | None]:
    """Kind and bytes as the code says; ? where it is none, None where the state says the bytes."""
    if not isinstance(dtype, Call) or not dtype.made_by("numpy.dtype"):
        return "?", None
    code = dtype.args.items[0] if isinstance(dtype.args, Group) and dtype.args.items else None
    if isinstance(code, Global):
        return ("V", None) if code.full in ("numpy.record", "numpy.rec.record") else ("?", None)
    if not isinstance(code, str):
        return "?", None
    bare = code.lstrip("<>=|")
    kind, digits = bare[:1], bare[1:]
    if kind == "?":
        return "b", 1
    if not digits.isdecimal() or len(digits) > 9:
        return "?", None
    return kind, int(digits) * (4 if kind == "U" else 1)


def _extent(dtype: Any) -> int | None:
    """Bytes of one value; None where that cannot be told."""
    kind, width = _kind(dtype)
    if kind in _SIZED and dtype.state is not None:
        state = dtype.state.items if isinstance(dtype.state, Group) else []
        return state[5] if len(state) > 5 and isinstance(state[5], int) else None
    return width if kind in _PLAIN | _SIZED | {"O"} else None


def _parts(base: Any, fields: Any, size: int) -> list[Any] | None:
    """The dtypes inside a dtype of ``size`` bytes; None where one of them lies outside."""
    places: list[tuple[Any, Any, Any]] = []
    if base is not None:
        pair = base.items if isinstance(base, Group) and len(base.items) == 2 else [None, None]
        sides = pair[1].items if isinstance(pair[1], Group) else [pair[1]]
        if not all(isinstance(side, int) and 0 <= side < 2**31 for side in sides):
            return None
        places.append((pair[0], 0, math.prod(sides)))
    if fields is not None:
        if not isinstance(fields, Group) or len(fields.items) > 2 * _MOST_FIELDS:
            return None
        for field in fields.items[1::2]:
            if not isinstance(field, Group) or len(field.items) not in (2, 3):
                return None
            places.append((field.items[0], field.items[1], 1))
    for dtype, offset, count in places:
        extent = _extent(dtype)
        if extent is None or not isinstance(offset, int) or offset < 0:
            return None
        if offset + extent * count > size:
            return None
    return [dtype for dtype, _, _ in places]
