"""GGUF files: their table of metadata, with the chat template that jinja2 would run.

Format: ggml-org/ggml, docs/gguf.md.
"""

from modelward.scan.limits import UnreadableError
from modelward.scan.scanner import Item, Scanner
from modelward.scan.templates import check_template

__all__ = ["read"]

MAX_KEY = 2**16
MAX_TEXT = 2**20
_WIDTH = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _LIST = 8, 9


def read(scanner: Scanner, item: Item) -> None:
    """Walk the metadata."""
    reader = _Reader(scanner, item)
    version = reader.number(4)
    if version not in (2, 3):
        raise UnreadableError(f"GGUF version {version} is not read")
    reader.number(8)
    for _ in range(reader.number(8)):
        key = reader.text(MAX_KEY)
        value = reader.value(reader.number(4), 0)
        if value and key.startswith("tokenizer.chat_template"):
            if len(value) >= MAX_TEXT:
                raise UnreadableError(f"a chat template of more than {MAX_TEXT} bytes")
            check_template(scanner, item, value)


class _Reader:
    def __init__(self, scanner: Scanner, item: Item) -> None:
        self.scanner, self.blob, self.at = scanner, item.blob, 4

    def number(self, width: int) -> int:
        content = self.blob.read(self.at, width)
        if len(content) < width:
            raise UnreadableError("the metadata is cut off")
        self.at += width
        return int.from_bytes(content, "little")

    def text(self, limit: int) -> str:
        """A text, cut at ``limit`` bytes."""
        size = self.number(8)
        if self.at + size > self.blob.size:
            raise UnreadableError("the metadata is cut off")
        content = self.blob.read(self.at, min(size, limit))
        self.at += size
        return content.decode("utf-8", "replace")

    def value(self, kind: int, depth: int) -> str | None:
        """Skip a value; a text comes back."""
        self.scanner.budget.spend("nodes")
        if kind == _TEXT:
            return self.text(4 * MAX_TEXT)
        if kind == _LIST and depth < 8:
            inner, count = self.number(4), self.number(8)
            if inner in _WIDTH:
                self.at += _WIDTH[inner] * count
            else:
                for _ in range(count):
                    self.value(inner, depth + 1)
            return None
        if kind not in _WIDTH:
            raise UnreadableError(f"an unknown type of metadata ({kind})")
        self.at += _WIDTH[kind]
        return None
