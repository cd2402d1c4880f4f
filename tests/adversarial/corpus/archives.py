"""Containers that two readers open differently, or that hide a pickle from the second look."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from corpus.canary import Canary
from corpus.opcodes import called, stream
from corpus.writing import Builder, written

SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c\x00\x04"


def evil(canary: Canary) -> bytes:
    return stream(called("builtins", "eval", canary.python))


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def torch_zip(canary: Canary, *, other: str = "data.pkl") -> bytes:
    """A PyTorch archive with a hostile data.pkl."""
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    top = next(iter(members)).split("/")[0]
    members[f"{top}/{other}"] = evil(canary)
    return zipped(members)


def with_field(content: bytes, local: int, central: int, value: int) -> bytes:
    """Set a 2-byte field of the first local header and of its directory entry."""
    raw = bytearray(content)
    at = raw.index(b"PK\x01\x02", raw.rindex(b"evil") - 50)
    start = struct.unpack_from("<L", raw, at + 42)[0]
    if local >= 0:
        struct.pack_into("<H", raw, start + local, value)
    if central >= 0:
        struct.pack_into("<H", raw, at + central, value)
    return bytes(raw)


def evil_zip(canary: Canary) -> bytes:
    return zipped({"archive/version": b"3\n", "evil/data.pkl": evil(canary)})


def wrong_crc(canary: Canary) -> bytes:
    raw = bytearray(evil_zip(canary))
    at = raw.rindex(b"PK\x01\x02")
    start = struct.unpack_from("<L", raw, at + 42)[0]
    raw[at + 16] ^= 0xFF
    raw[start + 14] ^= 0xFF
    return bytes(raw)


def encrypted_flag(canary: Canary) -> bytes:
    """zipfile refuses it; PyTorch's reader does not look at the flag."""
    return with_field(evil_zip(canary), 6, 8, 0x1)


def local_name_differs(canary: Canary) -> bytes:
    raw = bytearray(evil_zip(canary))
    at = raw.index(b"evil/data.pkl")
    raw[at : at + 13] = b"good/data.txt"
    return bytes(raw)


def duplicate_member(canary: Canary) -> bytes:
    raw = zipped({"evil/data.pkl": evil(canary), "good/data.pkl": b"\x80\x02N."})
    return raw.replace(b"good/data.pkl", b"evil/data.pkl")


def not_in_directory(canary: Canary) -> bytes:
    """A member that only a reader of the local headers finds."""
    hidden = zipped({"evil/data.pkl": evil(canary)})
    hidden = hidden[: hidden.index(b"PK\x01\x02")]
    good = bytearray(zipped({"good.pkl": b"\x80\x02N."}))
    at = good.index(b"PK\x01\x02")
    result = good[:at] + hidden + good[at:]
    end = len(result) - 22
    struct.pack_into("<L", result, end + 16, at + len(hidden))
    return bytes(result)


def overlapping(canary: Canary) -> bytes:
    raw = bytearray(zipped({"a.pkl": evil(canary), "b.pkl": evil(canary)}))
    second = raw.rindex(b"PK\x01\x02")
    struct.pack_into("<L", raw, second + 42, 0)
    return bytes(raw)


def unknown_method(canary: Canary) -> bytes:
    return with_field(evil_zip(canary), 8, 10, 99)


def cut(canary: Canary) -> bytes:
    return evil_zip(canary)[:-30]


def bytes_in_front(canary: Canary) -> bytes:
    return evil(canary) + zipped({"readme.txt": b"hello"})


def bytes_behind(canary: Canary) -> bytes:
    return zipped({"readme.txt": b"hello"}) + evil(canary)


def two_ends(canary: Canary) -> bytes:
    """Two archives in one file; readers from the front and from the end see different ones."""
    return zipped({"good.txt": b"hello"}) + evil_zip(canary)


def zip_slip(canary: Canary) -> bytes:
    return zipped({"../../etc/cron.d/x": canary.shell.encode()})


def symlink(canary: Canary) -> bytes:
    del canary
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("weights.bin")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def bomb(canary: Canary) -> bytes:
    """110 MB of zeros, in an archive in an archive, beside the payload."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("zeros", "w") as file:
            for _ in range(110):
                file.write(b"\0" * 2**20)
    members = {"inner.zip": inner.getvalue(), "evil.pkl": evil(canary)}
    return zipped(members, zipfile.ZIP_DEFLATED)


def matryoshka(canary: Canary) -> bytes:
    content = evil(canary)
    for _ in range(12):
        content = zipped({"inner.zip": content})
    return content


def object_npy(canary: Canary) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([None], dtype=object))
    content = buffer.getvalue()
    return content[: content.index(b"\n") + 1] + evil(canary)


def object_npz(canary: Canary) -> bytes:
    return zipped({"a.npy": object_npy(canary)})


def long_npy(canary: Canary) -> bytes:
    """More bytes than the header says."""
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue() + evil(canary)


def tar(canary: Canary) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        content = evil(canary)
        info = tarfile.TarInfo("pickle")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_slip(canary: Canary) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("link")
        info.type = tarfile.SYMTYPE
        info.linkname = "../../etc"
        archive.addfile(info)
        content = canary.shell.encode()
        info = tarfile.TarInfo("/etc/cron.d/x")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_and_pickle(canary: Canary) -> bytes:
    """A tar archive whose first name is a pickle."""
    name = b"cos\nsystem\n(Vtouch canary\ntR."
    raw = bytearray(tar(canary).replace(evil(canary), b"N." + b"\0" * (len(evil(canary)) - 2)))
    raw[:100] = name.ljust(100, b"\0")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return bytes(raw)


def torchscript(canary: Canary) -> bytes:
    del canary
    return zipped({
        "m/version": b"3\n", "m/data.pkl": b"\x80\x02N.", "m/constants.pkl": b"\x80\x02).",
        "m/code/__torch__.py": b"def forward(self, x):\n  return torch.from_file('/etc/passwd')\n",
    })  # fmt: skip


def broken_gzip(canary: Canary) -> bytes:
    """Cut off behind the call: what was unpacked has run."""
    return gzip.compress(evil(canary) + b"\0" * 10, 0)[:-12]


_CONTAINERS: dict[str, tuple[Callable[[Canary], bytes], str]] = {
    "torch-zip": (torch_zip, "m.pt"),
    "torch-zip-other-member": (lambda c: torch_zip(c, other="extra.txt"), "m.pt"),
    "torch-zip-storage": (lambda c: torch_zip(c, other="data/0"), "m.pt"),
    "zip-wrong-crc": (wrong_crc, "m.pt"),
    "zip-encrypted-flag": (encrypted_flag, "m.pt"),
    "zip-local-name": (local_name_differs, "m.pt"),
    "zip-duplicate": (duplicate_member, "m.pt"),
    "zip-hidden-member": (not_in_directory, "m.pt"),
    "zip-overlap": (overlapping, "m.pt"),
    "zip-method": (unknown_method, "m.pt"),
    "zip-cut": (cut, "m.pt"),
    "zip-front": (bytes_in_front, "m.zip"),
    "zip-behind": (bytes_behind, "m.zip"),
    "zip-two-ends": (two_ends, "m.zip"),
    "zip-slip": (zip_slip, "m.zip"),
    "zip-symlink": (symlink, "m.zip"),
    "zip-bomb": (bomb, "m.zip"),
    "zip-in-zip": (matryoshka, "m.zip"),
    "zip-named-7z": (evil_zip, "m.7z"),
    "zip-named-bin": (evil_zip, "pytorch_model.bin"),
    "7z": (lambda c: SEVEN_ZIP + evil(c), "m.pt"),
    "npy-objects": (object_npy, "m.npy"),
    "npz-objects": (object_npz, "m.npz"),
    "npy-long": (long_npy, "m.npy"),
    "tar": (tar, "m.tar"),
    "tar-slip": (tar_slip, "m.tar"),
    "tar-and-pickle": (tar_and_pickle, "m.tar"),
    "gzip": (lambda c: gzip.compress(evil(c)), "m.joblib"),
    "bzip2": (lambda c: bz2.compress(evil(c)), "m.joblib"),
    "xz": (lambda c: lzma.compress(evil(c)), "m.joblib"),
    "lzma": (lambda c: lzma.compress(evil(c), lzma.FORMAT_ALONE), "m.joblib"),
    "zlib": (lambda c: zlib.compress(evil(c)), "m.joblib"),
    "gzip-second-stream": (
        lambda c: gzip.compress(b"\x80\x02N.") + gzip.compress(evil(c)), "m.pkl.gz",
    ),
    "gzip-cut": (broken_gzip, "m.joblib"),
    "gzip-in-zip": (lambda c: zipped({"m.pkl.gz": gzip.compress(evil(c))}), "m.zip"),
    "torchscript-file": (torchscript, "m.pt"),
}  # fmt: skip


def directory_link(folder: Path, canary: Canary) -> Path:
    """A folder with a link out of it."""
    target = folder / "model"
    target.mkdir()
    (target / "config.json").write_text("{}")
    (target / "weights.bin").symlink_to(canary.file)
    return target


FILES: dict[str, Builder] = {
    **{f"file-{name}": written(file, make) for name, (make, file) in _CONTAINERS.items()},
    "folder-link": directory_link,
}
