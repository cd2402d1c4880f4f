"""Strategies that make hostile files, and the watch that ends a reader which hangs."""

import contextlib
import io
import json
import pickle
import signal
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from PIL import Image
from readers import keras_zip, zipped

__all__ = [
    "SOUND",
    "configs",
    "csvs",
    "hostile_zips",
    "images",
    "mutated",
    "payloads",
    "watched",
]

HANG_SECONDS = 10


class Hang(Exception):
    """A reader used more than its seconds."""


@contextlib.contextmanager
def watched(seconds: float = HANG_SECONDS) -> Iterator[None]:
    """End what runs inside after so many seconds of processor time, which other load leaves be."""

    def hung(_signal: int, _frame: object) -> None:
        raise Hang(f"still at it after {seconds:g} s")

    before = signal.signal(signal.SIGPROF, hung)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


NUMBERS = st.sampled_from([0, 1, 2, 7, 28, 100, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
_HONEST_NAMES = [
    b"label.csv", b"data/0.png", b"model.h5", b"config.json", b"model.weights.h5", b"a/data.pkl",
    b"metadata.json", b"m.keras", b"1.png", b"b/2.png", b"e.npy", b"f.bin", b"g/", b"h.txt",
]  # fmt: skip
_ODD_NAMES = [
    b"../x", b"/etc/x", b"C:\\x", b"a\\..\\b", b"", b".", b"./", b"a//b", b"a/", b"\xff\xfe",
    b"a\0b", "é.png".encode(), "e\u0301.png".encode(), b"x" * 1100, b"__MACOSX/._a.csv",
    b"PK\x05\x06", b"saved_model.pb", b"data.pkl", b"archive/data.pkl",
]  # fmt: skip


def _name(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 19)) == 10:
        return draw(st.binary(max_size=20))
    return draw(st.sampled_from(_HONEST_NAMES * 10 + _ODD_NAMES))


def _field(draw: st.DrawFn, true: int, width: int) -> int:
    """A field of a record: mostly what it should be, sometimes anything."""
    kind = draw(st.integers(0, 24))
    if kind < 23:
        return true & ((1 << width) - 1)
    return draw(NUMBERS if kind == 23 else st.integers(0, (1 << width) - 1)) & ((1 << width) - 1)


def _extra(draw: st.DrawFn, sizes: tuple[int, int, int]) -> bytes:
    kind = draw(st.integers(0, 15))
    if kind < 14:
        return b""
    if kind == 14:  # zip64, whole or with some of the values missing
        values = struct.pack("<3Q", *(_field(draw, value, 64) for value in sizes))
        body = values[: draw(st.sampled_from([24, 16, 8, 5, 0]))]
        return struct.pack("<2H", 1, _field(draw, len(body), 16)) + body
    return draw(st.binary(max_size=40))


@st.composite
def hostile_zips(draw: st.DrawFn) -> bytes:
    """Archives whose records agree with each other mostly, but not always."""
    out, directory, made = bytearray(draw(st.sampled_from([b""] * 9 + [b"MZ"]))), bytearray(), 0
    for _ in range(draw(st.sampled_from([1, 2, 3, 1, 2, 3, 4, 0]))):
        name, content = _name(draw), draw(st.one_of(st.binary(max_size=60), csvs(), configs()))
        content *= draw(st.sampled_from([1, 1, 1, 300]))
        method = draw(st.sampled_from([0, 8] * 6 + [12, 99]))
        packed = content
        if method == 8:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = packer.compress(content) + packer.flush()
            packed = packed[: draw(st.sampled_from([len(packed)] * 9 + [len(packed) // 2]))]
        at = len(out)
        crc = _field(draw, zlib.crc32(content), 32)
        flags = draw(st.sampled_from([0, 0x800, 8] * 5 + [1, 0x2000]))
        size, small = _field(draw, len(content), 32), _field(draw, len(packed), 32)
        head = struct.pack("<5H3L2H", 20, flags, method, 0, 33, crc, small, size, len(name), 0)
        out += draw(st.sampled_from([b"PK\x03\x04"] * 19 + [b"PK\x03\x05"])) + head + name + packed
        extra = _extra(draw, (len(content), len(packed), at))
        if extra:
            size = small = draw(st.sampled_from([0xFFFFFFFF, len(content)]))
        kinds = [0, 0o100644] * 9 + [0o040755, 0o120777, 0o020666]
        mode = draw(st.sampled_from(kinds)) << 16
        directory += b"PK\x01\x02" + struct.pack(
            "<6H3L5H2L", 20, 20, flags, method, 0, 33, crc, small, size, len(name), len(extra),
            0, 0, 0, mode, _field(draw, at, 32),
        )  # fmt: skip
        directory += name + extra
        made += 1
        if draw(st.integers(0, 19)) == 10:  # the same record twice
            directory += directory[-46 - len(name) - len(extra) :]
            made += 1
    start = len(out)
    out += directory
    if draw(st.integers(0, 9)) == 5:
        count = _field(draw, made, 64)
        end64 = struct.pack(
            "<Q2H2L4Q", 44, 45, 45, 0, 0, count, count,
            _field(draw, len(directory), 64), _field(draw, start, 64),
        )  # fmt: skip
        out += b"PK\x06\x06" + end64
        out += b"PK\x06\x07" + struct.pack("<LQL", 0, _field(draw, start + len(directory), 64), 1)
    count = _field(draw, made, 16)
    comment = draw(st.sampled_from([b"", b"", b"", b"hi", b"PK\x05\x06" + bytes(18)]))
    out += b"PK\x05\x06" + struct.pack(
        "<4H2LH", 0, 0, count, count, _field(draw, len(directory), 32), _field(draw, start, 32),
        len(comment),
    )  # fmt: skip
    return bytes(out + comment + draw(st.sampled_from([b""] * 15 + [b"\0"])))


CELLS = st.one_of(
    st.sampled_from([
        "0.png", "data/0.png", "0", "1", "2", "2.0", "3", "-1", "", " ", '"', '""', '"a\nb"', "١",
        "1e3", "nan", "9" * 400, "..\\0.png", "e\u0301.png", "\u0345\u0334" * 40, "\ud7ff", "\0",
        "image", "label", "x" * 2000,
    ]),
    st.text(max_size=12),
)  # fmt: skip


@st.composite
def csvs(draw: st.DrawFn) -> bytes:
    """Label tables: mostly with the two columns, in any delimiter and encoding."""
    delimiter = draw(st.sampled_from(",,,;\t|"))
    header = draw(st.sampled_from([["image", "label"]] * 4 + [["label", "x", "image"], ["a"], []]))
    honest = st.tuples(st.sampled_from(["0.png", "a/1.png", " x "]), st.sampled_from("0012"))
    row = st.one_of(honest.map(list), honest.map(list), st.lists(CELLS, max_size=4))
    rows = [header, *draw(st.lists(row, max_size=8))]
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(delimiter.join(row) for row in rows) + draw(st.sampled_from(["", end, end * 3]))
    encoding = draw(st.sampled_from(["utf-8"] * 4 + ["utf-8-sig", "utf-16", "utf-16-be", "cp1252"]))
    raw = text.encode(encoding, "replace")
    return raw[: draw(st.sampled_from([len(raw)] * 6 + [len(raw) // 2]))]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.sampled_from(["Dense", "Lambda", "function", "keras.layers", "os", "relu", "Sequential"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from([
            "class_name", "config", "module", "registered_name", "layers", "units", "activation",
            "name", "kernel_size", "build_config", "inbound_nodes", "vocabulary", "compile_config",
        ]) | st.text(max_size=6),
        inner, max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


@st.composite
def configs(draw: st.DrawFn) -> bytes:
    """Configurations of Keras models: a sound root, anything below; sometimes very deep."""
    depth = draw(st.sampled_from([0] * 8 + [110, 400, 800, 990, 100_000]))
    places = {"class_name": draw(st.sampled_from(["Sequential", "Functional"] * 4 + [["x"]]))}
    places["config"] = draw(JSON)
    key = draw(st.sampled_from(["units", "config", "module", "registered_name", "activation", "x"]))
    deep = "[" * depth + json.dumps(draw(JSON)) + "]" * depth
    layer = f'{{"class_name": "function", "{key}": {deep}}}'
    return (json.dumps(places)[:-1] + f', "layers": [{layer}]}}').encode()


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Parameters of an analysis with one or two values that are anything."""
    values: dict[str, Any] = {
        "input_dimensions": "(8, 8, 1)", "number_of_classes": "3", "attack_type": "blackbox",
        "number_of_attack_queries": 200, "vulnerability_threshold": "0", "normalize_data": "yes",
        "encryption_strategy": 0, "model_framework": "tensorflow", "defense_bestonly": "no",
    }  # fmt: skip
    odd = st.one_of(
        JSON,
        st.sampled_from(["(1e9,8,1)", "((((", "9" * 5000, "∞", "²", 1e400, -0.0, "(8,8,1)" * 99]),
    )
    values |= draw(st.dictionaries(st.sampled_from(sorted(values)), odd, max_size=3))
    return json.dumps(values).encode()


def _picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), 7).save(buffer, kind)
    return buffer.getvalue()


@st.composite
def images(draw: st.DrawFn) -> bytes:
    """JPEG segments of any kind and length, and heads of the other formats."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        out = bytearray(b"\xff\xd8")
        for _ in range(draw(st.integers(0, 12))):
            out += b"\xff" * draw(st.sampled_from([1, 1, 1, 2, 3000]))
            out += bytes([draw(st.integers(0, 255))]) + draw(st.binary(max_size=20))
        return bytes(out)
    heads = [
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBPVP8X",
        b"RIFF\0\0\0\0WEBPVP8 ",
    ]
    return draw(st.sampled_from(heads)) + draw(st.binary(max_size=40))


def _weights(**options: Any) -> bytes:
    """A small HDF5 file as Keras writes it."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        file.attrs["model_config"] = '{"class_name": "Sequential", "config": {"layers": []}}'
        group = file.create_group("model_weights/dense/dense")
        group.create_dataset("kernel:0", data=np.ones((3, 2), "f4"))
        group.create_dataset("bias:0", data=np.zeros(40, "f4"), chunks=(8,), compression="gzip")
    return buffer.getvalue()


SOUND = [
    _weights(),
    _weights(libver="latest"),
    zipped({"label.csv": b"image,label\n0.png,1\n", "data/0.png": _picture("PNG"), "m.h5": b"x"}),
    zipped({"a/label.csv": b"image,label\n" + b"0.png,1\n" * 50}, zipfile.ZIP_DEFLATED),
    keras_zip(b'{"class_name": "Sequential", "config": {"name": "s", "layers": []}}'),
    b"image,label\n0.png,1\n1.png,2\n",
    b'{"class_name": "Sequential", "config": {"name": "s", "layers": []}}',
    pickle.dumps({"a": [1, 2.5, b"x", "y"], "w": np.arange(4.0)}, 4),
    pickle.dumps([1, {"x": (1, 2)}], 0),
    *map(_picture, ["PNG", "JPEG", "BMP", "GIF", "WEBP"]),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Sound files of every kind with some bytes changed, cut, doubled or put in."""
    content = bytearray(draw(st.sampled_from(SOUND)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and content:
            content[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        elif kind == 1:
            del content[at : at + draw(st.integers(1, 40))]
        elif kind == 2:
            content[at:at] = content[at : at + draw(st.integers(1, 80))]
        else:
            content[at:at] = draw(st.binary(max_size=12))
    return bytes(content)
