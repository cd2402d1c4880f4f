"""Compressed files, as joblib and others write them: unpacked within bounds, then told again."""

from modelward.scan.blob import Blob
from modelward.scan.scanner import Item, Scanner
from modelward.scan.unpack import unpack

__all__ = ["read"]


def read(scanner: Scanner, item: Item) -> None:
    """Scan what is inside; the part that came out of a broken stream is scanned too."""
    file, size, problem = unpack(scanner, item.blob, item.format)
    if problem:
        item.errors.append(problem)
    with file:
        scanner.scan(f"{item.path}!content", Blob(file, 0, size), item.depth + 1)
