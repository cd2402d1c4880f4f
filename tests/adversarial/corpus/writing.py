"""From the content of a hostile file to the file."""

from collections.abc import Callable
from pathlib import Path

from corpus.canary import Canary

Builder = Callable[[Path, Canary], Path]
"""Writes into a folder, gives what is to be scanned."""


def fixed(content: bytes) -> Callable[[Canary], bytes]:
    """Content that needs no canary."""
    return lambda canary: content


def written(name: str, make: Callable[[Canary], bytes]) -> Builder:
    """One file of this name."""

    def write(folder: Path, canary: Canary) -> Path:
        file = folder / name
        file.write_bytes(make(canary))
        return file

    return write
