"""Assembling pickles by hand, which pickle.dumps would not write."""

import pickle


def plain(value: object, protocol: int = 2) -> bytes:
    """Opcodes that push a value, without header and STOP."""
    content = pickle.dumps(value, protocol)
    return content[2 if protocol >= 2 else 0 : -1]


def called(module: str, name: str, *args: object) -> bytes:
    """Opcodes that call a global with plain arguments and leave the result."""
    return f"c{module}\n{name}\n".encode() + plain(args) + b"R"


def stream(*parts: bytes, protocol: int = 2) -> bytes:
    """A whole pickle."""
    return b"\x80" + bytes([protocol]) + b"".join(parts) + b"."


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw
