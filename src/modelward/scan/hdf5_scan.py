"""HDF5 files: Keras models of the older format, and weights."""

import json
from typing import Any

from modelward.scan.hdf5 import hdf5_problems
from modelward.scan.keras_config import MAX_CONFIG_BYTES
from modelward.scan.keras_scan import scan_config
from modelward.scan.limits import UnreadableError
from modelward.scan.scanner import Item, Scanner

__all__ = ["read"]


def read(scanner: Scanner, item: Item) -> None:
    """Look at every object and at the configurations in the attributes."""
    try:
        import h5py
    except ImportError:
        raise UnreadableError('reading HDF5 needs h5py: pip install "modelward[server]"') from None
    start = _start(item)
    if start:
        scanner.finding(item, "MW-FMT-002", f"{start} bytes in front of the HDF5 file")
        scanner.scan(f"{item.path}!front", item.blob.window(0, start), item.depth + 1)
    try:
        with item.blob.open() as raw, h5py.File(raw, "r") as file:
            for found in hdf5_problems(file, item.blob.size):
                scanner.budget.spend("nodes")
                scanner.finding(item, found.rule, found.what, where=found.where or None)
            for name in ("model_config", "training_config"):
                if name in file.attrs:
                    _config(scanner, item, name, file.attrs[name])
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnreadableError(f"no readable HDF5 file ({lines[0][:200]})") from None


def _start(item: Item) -> int:
    offset = 0
    while item.blob.read(offset, 8) != b"\x89HDF\r\n\x1a\n":
        offset = max(512, offset * 2)
    return offset


def _config(scanner: Scanner, item: Item, name: str, raw: Any) -> None:
    if not isinstance(raw, str | bytes) or len(raw) > MAX_CONFIG_BYTES:
        raise UnreadableError(f"{name} is no text of at most {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{name} is no readable JSON ({error})") from None
    if not isinstance(config, dict):
        raise UnreadableError(f"{name} is no JSON object")
    scan_config(scanner, item, config, f"{name}, ")
