"""safetensors files: a JSON header and raw values; the header must describe every byte once."""

import json
from itertools import pairwise
from typing import Any

from modelward.scan.documents import check_containers
from modelward.scan.limits import UnreadableError, count_of
from modelward.scan.scanner import Item, Scanner

__all__ = ["read"]

MAX_HEADER = 100_000_000
"""As the format's own reader refuses longer ones."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64,
}  # fmt: skip


def read(scanner: Scanner, item: Item) -> None:
    """Check the header against the file."""
    length = int.from_bytes(item.blob.read(0, 8), "little")
    text = item.blob.read(8, length)
    check_containers(text)
    try:
        header = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"no readable header ({error})") from None
    if not isinstance(header, dict):
        raise UnreadableError("a header that is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UnreadableError("metadata that is no table of texts")
    ranges = sorted(_range(name, value) for name, value in header.items())
    end = item.blob.size - 8 - length
    edges = [(0, 0), *ranges, (end, end)]
    for (_, before), (start, _) in pairwise(edges):
        if before != start:
            raise UnreadableError("tensors that overlap or leave bytes between them")
    del scanner


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _range(name: str, value: object) -> tuple[int, int]:
    if isinstance(value, dict):
        offsets, shape, kind = value.get("data_offsets"), value.get("shape"), value.get("dtype")
        if (
            isinstance(offsets, list) and len(offsets) == 2 and isinstance(shape, list)
            and all(isinstance(n, int) and 0 <= n < 2**48 for n in (*offsets, *shape))
            and isinstance(kind, str) and kind in _BITS
        ):  # fmt: skip
            if offsets[1] - offsets[0] == (count_of(shape) * _BITS[kind] + 7) // 8:
                return offsets[0], offsets[1]
    raise UnreadableError(f"the tensor {name!r:.60} is described wrongly")
