"""Files made to fill memory or time: read in a process that has little of either."""

import io
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from readers import keras_zip, zipped

LIMITED = Path(__file__).with_name("limited.py")
MEBI = 2**20


def deflated(members: dict[str, bytes]) -> bytes:
    return zipped(members, zipfile.ZIP_DEFLATED)


def bomb() -> bytes:
    """256 MiB in 256 KiB."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("0.png", "w", force_zip64=True) as file,
    ):
        for _ in range(256):
            file.write(bytes(MEBI))
    return buffer.getvalue()


def liar() -> bytes:
    """An entry that says 1,000 bytes and unpacks to 64 MB."""
    content = bytearray(deflated({"label.csv": bytes(64 * MEBI)}))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<L", 1000)
    return bytes(content)


def declared() -> bytes:
    """65,535 entries and a directory of 64 MiB, and nothing of it there."""
    return b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 65535, 65535, 64 * MEBI, 0, 0)


def same_names() -> bytes:
    """30,000 pictures of one name in as many folders, all of them labelled."""
    names = [f"d{n}/0.png" for n in range(30_000)]
    table = "image,label\n" + "".join(f"{name},1\n" for name in names)
    members = {name: b"GIF89a\x08\0\x08\0" for name in names}
    return zipped({**members, "label.csv": table.encode(), "m.h5": b"x"})


def jpegs(part: bytes, count: int = 20) -> bytes:
    """Pictures of 4 MiB of the same part."""
    picture = b"\xff\xd8" + part * (4 * MEBI // len(part))
    table = "image,label\n" + "".join(f"{n}.jpg,1\n" for n in range(count))
    members = {f"{n}.jpg": picture for n in range(count)}
    return deflated({**members, "label.csv": table.encode(), "m.h5": b"x"})


HEAD = b"image,label\n"
LONG = ("\u0345" * 600 + "\u0334" * 600).encode()
NEST = 200_000
CASES: list[tuple[str, Callable[[], bytes], int, str]] = [
    ("zip", bomb, 16, "compression ratio of at most 200"),
    ("zip", liar, 16, "more than the 1000 bytes that it declares"),
    ("zip", declared, 16, "directory is not where it says"),
    ("labels", lambda: deflated({"a.csv": bytes(40 * MEBI)}), 16, "compression ratio"),
    ("csv", lambda: bytes(33 * MEBI), 100, "csv of at most 33554432 bytes"),
    ("csv", lambda: b"," * 32 * MEBI, 100, "expected the columns image,label"),
    ("csv", lambda: HEAD + b"," * 31 * MEBI, 100, "rows of at most 1048576 characters"),
    ("csv", lambda: HEAD + b"ab," * 10 * MEBI, 100, "rows of at most 1048576 characters"),
    ("csv", lambda: HEAD + b'"\n",' * 7 * MEBI, 100, "rows of at most 1048576 characters"),
    ("csv", lambda: HEAD + b'"' + b"x" * 31 * MEBI, 100, "rows of at most 1048576 characters"),
    ("csv", lambda: HEAD + b"\n" * 31 * MEBI, 100, "at most 1000000 lines"),
    ("csv", lambda: HEAD + "\U0001f600".encode() * 6 * MEBI, 100, "rows of at most 1048576"),
    ("labels", lambda: deflated({f"{n}.csv": b"x" * MEBI for n in range(95)}), 60,
     "expected one csv"),
    ("labels", lambda: zipped({f"{n}.csv": b"x" for n in range(9000)}), 60, "expected one csv"),
    ("gate", lambda: zipped({"l.csv": HEAD + b"".join(LONG + b"%d,1\n" % n for n in range(9000)),
                             "m.h5": b"x"}), 100, "name of at most 1024 characters"),
    ("gate", lambda: zipped({"l.csv": HEAD + b"".join(LONG[:1600] + b"%d,1\n" % n
                                                      for n in range(9000)), "m.h5": b"x"}),
     100, "missing"),
    ("gate", same_names, 150, "read"),
    ("gate", lambda: jpegs(b"\xff"), 100, "a JPEG without a size among its first parts"),
    ("gate", lambda: jpegs(b"\xff\xe0\0\2"), 100, "a JPEG without a size among its first parts"),
    ("gate", lambda: jpegs(b"\xff\xe0\0\0"), 100, "a damaged JPEG"),
    ("config", lambda: b"[" * NEST, 50, "expected a configuration in JSON"),
    ("config", lambda: b'{"class_name": "Sequential", "units": ' + b"[" * 900 + b"]" * 900 + b"}",
     50, "deeper than 120"),
    ("config", lambda: b'{"class_name": "Sequential", "config": [' + b"1," * 9 * MEBI + b"1]}", 50,
     "at most 16777216 bytes"),
    ("config", lambda: b'{"class_name": "Sequential", "units": [' + b"1," * 3 * MEBI + b"1]}", 300,
     "read"),
    ("scan", lambda: keras_zip(b"[" * NEST), 50, "read"),
    ("scan", bomb, 100, "read"),
    ("scan", lambda: b"\x80\x04" + b"(" * 20 * MEBI, 400, "read"),
    ("scan", lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62), 50, "read"),
    ("scan", lambda: b"\x80\x04]\x94" + b"h\0\x85\x94" * 200_000 + b".", 400, "read"),
    ("scan", lambda: pickle.dumps(bytes(30 * MEBI)), 150, "read"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "make", "mebibytes", "answer"), CASES,
    ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)],
)  # fmt: skip
def test_little_memory_and_ten_seconds_are_enough(
    tmp_path: Path, reader: str, make: Callable[[], bytes], mebibytes: int, answer: str
):
    path = tmp_path / "upload.bin"
    path.write_bytes(make())
    done = subprocess.run(
        [sys.executable, str(LIMITED), reader, str(path), str(mebibytes)],
        capture_output=True, text=True, timeout=200, check=False,
        env={"PATH": "", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert answer in done.stdout
