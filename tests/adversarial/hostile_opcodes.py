"""Strategies that make pickles: opcodes in any order, and ways to ask for a dangerous global."""

import pickle
import struct

import numpy as np
from hypothesis import strategies as st

__all__ = ["hostile_pickles"]

OPCODES = st.sampled_from([
    b"\x80\x04", b"\x80\x05", b"\x80\x02", b"(", b".", b"0", b"1", b"2", b"N", b"K\x01", b"t", b"l",
    b"d", b"}", b"]", b")", b"a", b"s", b"u", b"e", b"R", b"o", b"b", b"\x81", b"\x92", b"\x93",
    b"\x94", b"h\0", b"h\x01", b"q\0", b"q\x01", b"p0\n", b"g0\n", b"p01\n", b"g1\n", b"j\0\0\0\0",
    b"\x8c\x05posix", b"\x8c\x06system", b"\x8c\x02os", b"X\x05\0\0\0posix", b"U\x06system",
    b"S'system'\n", b"Vposix\n", b"V\\u0070osix\n", b"cposix\nsystem\n", b"ios\nsystem\n",
    b"cnumpy\ndtype\n", b"cbuiltins\ngetattr\n", b"ccopyreg\n_reconstructor\n", b"P0\n", b"Q",
    b"\x82\x01", b"\x95\x04\0\0\0\0\0\0\0", b"\x95\xff\0\0\0\0\0\0\0", b"\x8a\x01\x02", b"I1\n",
    b"L1L\n", b"F1.0\n", b"\x88", b"\x89", b"\x90", b"\x8f", b"\x91", b"\x85", b"\x86", b"\x87",
    b"C\x02ab", b"B\x02\0\0\0ab", b"\x96\x02\0\0\0\0\0\0\0ab", b"\x97", b"\x98",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x8d\0\0\0\0\0\0\0\1", b"r\xff\xff\xff\x7f",
])  # fmt: skip


_PAIRS = st.sampled_from([("posix", "system"), ("os", "system"), ("subprocess", "Popen")])
_HARMLESS = st.sampled_from([
    b"N0", b"]q\x05a0", b"(K\x01K\x020" b"0", b"(NN1", b"}(X\1\0\0\0aK\1u0", b"K\1\x940", b"h\x630",
    b"cnumpy\ndtype\n0", b"\x95\1\0\0\0\0\0\0\0N0", b"\x80\x02", b"\x80\x04", b"C\0" b"0", b"(t0",
])  # fmt: skip


def _text(draw: st.DrawFn, text: str) -> bytes:
    """A text pushed by one of the opcodes, some of them through the memo."""
    raw = text.encode()
    kind = draw(st.sampled_from("sXUSVm"))
    push = {
        "s": b"\x8c" + bytes([len(raw)]) + raw,
        "X": b"X" + struct.pack("<I", len(raw)) + raw,
        "U": b"U" + bytes([len(raw)]) + raw,
        "S": b"S'" + raw + b"'\n",
        "V": b"V\\u%04x" % raw[0] + raw[1:] + b"\n",
    }
    if kind != "m":
        return push[kind]
    at = draw(st.integers(7, 12))
    put = draw(st.sampled_from([b"q%c" % at, b"p%d\n" % at, b"r" + struct.pack("<I", at)]))
    get = draw(st.sampled_from([b"h%c" % at, b"g%d\n" % at, b"j" + struct.pack("<I", at)]))
    return push["X"] + put + b"0N0" + get


@st.composite
def _attacks(draw: st.DrawFn) -> bytes:
    """Opcodes that ask for a dangerous global, one way or another, among harmless ones."""
    module, name = draw(_PAIRS)
    plain = f"{module}\n{name}\n".encode()
    ways = [
        b"c" + plain + b"(X\2\0\0\0idtR",
        b"(X\2\0\0\0idi" + plain,
        _text(draw, module) + _text(draw, name) + b"\x93",
        b"(N" + _text(draw, module) + _text(draw, name) + b"\x93X\2\0\0\0ido",
        b"c" + plain + b")\x81",
        b"c" + plain + b"0N",
        b"c" + plain + b"\x94NR",
    ]
    before, after = draw(st.lists(_HARMLESS, max_size=4)), draw(st.lists(_HARMLESS, max_size=2))
    return b"".join([*before, draw(st.sampled_from(ways)), *after])


@st.composite
def hostile_pickles(draw: st.DrawFn) -> bytes:
    """Attacks, or opcodes in any order: alone, before, behind and inside a sound pickle."""
    mess = draw(_attacks() | st.lists(OPCODES, max_size=30).map(b"".join))
    sound = pickle.dumps({"a": [1.5, ("b", 2)], "w": np.arange(3.0)}, draw(st.integers(0, 5)))
    at = draw(st.integers(0, len(sound)))
    return draw(
        st.sampled_from(
            [mess, mess + b".", sound + mess + b".", mess + sound, sound[:at] + mess + sound[at:]]
        )
    )
