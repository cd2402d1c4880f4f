"""Folders: SavedModel trees, MLflow models, or any heap of files."""

import os
from pathlib import Path

from modelward.scan.blob import Blob
from modelward.scan.places import roles
from modelward.scan.scanner import Item, Scanner

__all__ = ["read"]


def read(scanner: Scanner, folder: Path) -> None:
    """Scan every file below a folder; a link that leads out of it is reported, not followed."""
    found: list[str] = []
    inside = _own_places(folder)
    for where, folders, names in os.walk(folder, onerror=_Report(scanner)):
        folders.sort()
        base = Path(where).relative_to(folder)
        for name in sorted([*names, *folders]):
            path = (base / name).as_posix()
            full = folder / path
            if full.is_symlink() and not _stays(full, inside):
                item = Item(path, Blob.of_bytes(b""), format="link")
                scanner.items.append(item)
                target = os.readlink(full)
                scanner.finding(item, "MW-FMT-004", f"a symbolic link to {target!r:.100}")
            elif full.is_file():
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


def _own_places(folder: Path) -> list[Path]:
    """Where links of a folder may lead: into itself, or to the contents of a model hub's cache.

    Hugging Face keeps the files of all versions in ``blobs`` and makes each of them a folder of
    links, ``snapshots/<version>``.
    """
    own = folder.resolve()
    contents = own.parent.parent / "blobs"
    return [own, contents] if own.parent.name == "snapshots" else [own]


def _stays(link: Path, places: list[Path]) -> bool:
    """Whether a link leads to a file in one of the places."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # nothing there, or a circle
        return False
    return target.is_file() and any(target.is_relative_to(place) for place in places)


class _Report:
    """Folders that cannot be entered are errors, not silence."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner

    def __call__(self, error: OSError) -> None:
        item = Item(str(error.filename), Blob.of_bytes(b""))
        item.errors.append(f"not readable: {error.strerror}")
        self._scanner.items.append(item)
