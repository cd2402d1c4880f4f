"""Folders: SavedModel trees, MLflow models, or any heap of files."""

import os
from pathlib import Path

from modelward.scan.blob import Blob
from modelward.scan.places import roles
from modelward.scan.scanner import Item, Scanner

__all__ = ["read"]


def read(scanner: Scanner, folder: Path) -> None:
    """Scan every file below a folder; links are not followed but reported."""
    found: list[str] = []
    for where, folders, names in os.walk(folder, onerror=_Report(scanner)):
        folders.sort()
        base = Path(where).relative_to(folder)
        for name in sorted([*names, *folders]):
            path = (base / name).as_posix()
            full = folder / path
            if full.is_symlink():
                item = Item(path, Blob.of_bytes(b""), format="link")
                scanner.items.append(item)
                target = os.readlink(full)
                scanner.finding(item, "MW-FMT-004", f"a symbolic link to {target!r:.100}")
            elif name in names and full.is_file():
                found.append(path)
            elif name in names:
                item = Item(path, Blob.of_bytes(b""), format="special")
                item.errors.append("a special file (device, pipe or socket)")
                scanner.items.append(item)
    places = roles(found)
    for path in found:
        try:
            with (folder / path).open("rb") as file:
                scanner.scan(path, Blob.of_file(file), 0, places.get(path))
        except OSError as error:
            item = Item(path, Blob.of_bytes(b""))
            item.errors.append(f"not readable: {error.strerror}")
            scanner.items.append(item)
    if not found:
        item = Item(".", Blob.of_bytes(b""))
        item.errors.append("the folder holds no file")
        scanner.items.append(item)


class _Report:
    """Folders that cannot be entered are errors, not silence."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner

    def __call__(self, error: OSError) -> None:
        item = Item(str(error.filename), Blob.of_bytes(b""))
        item.errors.append(f"not readable: {error.strerror}")
        self._scanner.items.append(item)
