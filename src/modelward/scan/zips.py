"""Zip archives, read so that a contradiction between two readers is a finding, not a hiding place.

Python's zipfile trusts the directory and refuses a wrong checksum; PyTorch and others trust the
headers in front of the data and check nothing. So every member is read by both, and a member that
the directory does not name is looked for. Layout: APPNOTE.TXT 6.3.10 (PKWARE), sections 4.3 to 4.5.
"""

import stat
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import IO

from modelward.scan.blob import Blob
from modelward.scan.limits import UnreadableError
from modelward.scan.places import bad_name, roles
from modelward.scan.scanner import Item, Scanner
from modelward.scan.sniff import is_zip_tail
from modelward.scan.unpack import inflate

__all__ = ["read"]

_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR = 0x0008
_MAX_DIRECTORY = 64 * 2**20


@dataclass(frozen=True)
class Member:
    """One entry of the directory."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int


def read(scanner: Scanner, item: Item) -> None:
    """Scan every member; contradictions are errors and findings, and the bytes are read anyway."""
    members, start = _directory(scanner, item)
    places = roles(member.name for member in members)
    for name, count in Counter(member.name for member in members).items():
        if count > 1:
            _contradiction(scanner, item, f"the member {name!r} occurs {count} times")
    end = 0
    for member in sorted(members, key=lambda member: member.offset):
        if member.offset > end:
            _between(scanner, item, end, member.offset)
        elif member.offset < end:
            _contradiction(scanner, item, f"the member {member.name!r} overlaps another one")
        end = max(end, _member(scanner, item, member, places.get(member.name)))
    if start > end:
        _between(scanner, item, end, start)


def _contradiction(scanner: Scanner, item: Item, reason: str) -> None:
    scanner.finding(item, "MW-ZIP-001", reason)
    item.errors.append(reason)


def _between(scanner: Scanner, item: Item, start: int, end: int) -> None:
    """Bytes that the directory does not speak of: padding, descriptors, or something hidden."""
    if end - start <= 24:  # a data descriptor
        return
    gap = item.blob.window(start, end - start)
    last, blank, headed = b"", True, False
    for chunk in gap.chunks():
        scanner.budget.tick()
        blank = blank and not chunk.strip(b"\0")
        headed = headed or b"PK\x03\x04" in last + chunk
        last = chunk[-3:]
    if blank:
        return
    if headed:
        _contradiction(scanner, item, f"a member at byte {start} that the directory does not name")
    elif start == 0:
        scanner.finding(item, "MW-FMT-002", f"{end} bytes in front of a zip archive")
        scanner.scan(f"{item.path}!front", gap, item.depth + 1)
    else:
        item.errors.append(f"{end - start} bytes at byte {start} that belong to no member")


def _directory(scanner: Scanner, item: Item) -> tuple[list[Member], int]:
    blob = item.blob
    at = is_zip_tail(blob)
    if at is None:
        at = blob.read(max(0, blob.size - 2**17), 2**17).rfind(b"PK\x05\x06")
        if at < 0:
            raise UnreadableError("the zip archive is cut off: it has no directory")
        at += max(0, blob.size - 2**17)
        _contradiction(scanner, item, f"{blob.size - at - 22} bytes behind the end of the archive")
    _check_comment(scanner, item, at)
    _, disk, first_disk, here, count, size, offset, _ = _END.unpack(blob.read(at, 22))
    end = at
    if blob.read(at - 20, 4) == b"PK\x06\x07":
        end, here, *wide = _wide_end(scanner, item, at - 20)
        for narrow, found in zip((count, size, offset), wide, strict=True):
            if narrow not in (found, 0xFFFF, 0xFFFFFFFF):
                _contradiction(scanner, item, "two end records that name different directories")
        count, size, offset = wide
    if disk or first_disk or here != count:
        raise UnreadableError("one part of a zip that spans several files")
    if size > _MAX_DIRECTORY or count > scanner.limits.files:
        raise UnreadableError(f"a directory of {size} bytes and {count} members")
    start = end - size  # where readers find it that allow bytes in front
    if start != offset:
        _contradiction(scanner, item, f"a directory at byte {start} that is said to be at {offset}")
    return _members(scanner, item, blob.read(start, size), count, start - offset), start


def _wide_end(scanner: Scanner, item: Item, locator: int) -> tuple[int, int, int, int, int]:
    """The zip64 end record: its place, members here, and members, size and place in all."""
    where = struct.unpack("<Q", item.blob.read(locator + 8, 8))[0]
    record = item.blob.read(where, 56)
    if record[:4] != b"PK\x06\x06" or len(record) < 56:
        raise UnreadableError("a broken zip64 record")
    if where + 12 + int.from_bytes(record[4:12], "little") != locator:
        # some readers follow the address, others take what stands before the locator
        _contradiction(scanner, item, "a zip64 record that is not where readers look for it")
    here, count, size, offset = struct.unpack("<4Q", record[24:56])
    return where, here, count, size, offset


def _check_comment(scanner: Scanner, item: Item, end: int) -> None:
    """The comment behind the end record may hold another end record, which zipfile goes by."""
    comment = item.blob.window(end + _END.size, item.blob.size)
    if comment.size and b"PK\x05\x06" in comment.read(0, comment.size):
        _contradiction(scanner, item, "a second end record in the archive's comment")
        scanner.scan(f"{item.path}!comment", comment, item.depth + 1)


def _members(scanner: Scanner, item: Item, content: bytes, count: int, shift: int) -> list[Member]:
    members: list[Member] = []
    at = 0
    while at < len(content):
        if len(content) - at < _CENTRAL.size or content[at : at + 4] != b"PK\x01\x02":
            raise UnreadableError("a broken zip directory")
        fields = _CENTRAL.unpack_from(content, at)
        name_size, extra_size, comment_size = fields[10:13]
        at += _CENTRAL.size
        raw = content[at : at + name_size]
        extra = content[at + name_size : at + name_size + extra_size]
        at += name_size + extra_size + comment_size
        sizes = _wide(extra, (fields[9], fields[8], fields[16]))
        other = _unicode_name(extra)
        if other is not None and (bad_name(other) or (raw.isascii() and other != _text(raw))):
            reason = f"the member {_text(raw)!r} has a second name {other!r:.100}"
            _contradiction(scanner, item, reason)
        if len(members) >= scanner.limits.files:
            raise UnreadableError(f"more than {len(members)} members")
        members.append(
            Member(
                _text(raw), fields[3], fields[4], fields[7],
                sizes[1], sizes[0], sizes[2] + shift, fields[15] >> 16,
            )
        )  # fmt: skip
    if len(members) != count:
        _contradiction(scanner, item, f"{len(members)} members in a directory of {count}")
    return members


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def _unicode_name(extra: bytes) -> str | None:
    """The name in the field for Unicode paths, which newer readers prefer; None: no such field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 0x7075 and length > 5:
            return extra[at + 9 : at + 4 + length].decode("utf-8", "replace")
        at += 4 + length
    return None


def _wide(extra: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """Sizes and offset, from the zip64 field where the plain ones say so."""
    at = 0
    while at + 4 <= len(extra) and 0xFFFFFFFF in values:
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
            numbers = list(struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8]))
            found = [numbers.pop(0) if v == 0xFFFFFFFF and numbers else v for v in values]
            return found[0], found[1], found[2]
        at += 4 + length
    return values


def _member(scanner: Scanner, item: Item, member: Member, role: str | None) -> int:
    """Scan one member.

    Returns:
        Where its data ends.
    """
    reason = bad_name(member.name)
    if reason:
        scanner.finding(item, "MW-FMT-003", f"the name {member.name[:100]!r} has {reason}")
    kind = stat.S_IFMT(member.mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        scanner.finding(item, "MW-FMT-004", f"the member {member.name[:100]!r} is no plain file")
    head = item.blob.read(member.offset, _LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
        _contradiction(scanner, item, f"no data where the directory says {member.name!r} is")
        return member.offset
    local = _LOCAL.unpack(head)
    data = member.offset + _LOCAL.size + local[9] + local[10]
    _compare(scanner, item, member, local)
    if member.name.endswith("/") and not member.packed:
        return int(data)
    # the flag may be a lie that only some readers believe: read on, and let the checksum tell
    if (member.flags | local[2]) & _ENCRYPTED:
        _contradiction(scanner, item, f"the member {member.name!r} is marked as encrypted")
    raw = item.blob.window(data, member.packed)
    if raw.size < member.packed:
        _contradiction(scanner, item, f"the member {member.name!r} is cut off")
    _content(scanner, item, member, raw, role)
    return int(data + member.packed)


def _compare(scanner: Scanner, item: Item, member: Member, local: tuple[int, ...]) -> None:
    """Hold the header in front of the data against the directory."""
    name_size, extra_size = local[9], local[10]
    raw = item.blob.read(member.offset + _LOCAL.size, name_size + extra_size)
    other = _text(raw[:name_size])
    if other != member.name:
        _contradiction(
            scanner, item, f"the member {member.name!r} calls itself {other!r} in front of its data"
        )
    size, packed, _ = _wide(raw[name_size:], (local[8], local[7], 0))
    differs = local[3] != member.method
    if not local[2] & _DESCRIPTOR:
        differs |= (local[6], packed, size) != (member.crc, member.packed, member.size)
    if differs or (local[2] ^ member.flags) & (_ENCRYPTED | _DESCRIPTOR):
        _contradiction(scanner, item, f"two different headers of the member {member.name!r}")


def _content(scanner: Scanner, item: Item, member: Member, raw: Blob, role: str | None) -> None:
    path = f"{item.path}!{member.name}"
    file: IO[bytes] | None = None
    if member.method == 0:
        content = raw
        if member.size != member.packed:
            _contradiction(scanner, item, f"two sizes of the member {member.name!r}")
        crc = 0
        for chunk in raw.chunks():
            crc = zlib.crc32(chunk, crc)
            scanner.budget.tick()
    elif member.method == 8:
        file, size, crc, complete = inflate(scanner, raw, -zlib.MAX_WBITS)
        content = Blob(file, 0, size)
        if not complete or size != member.size:
            _contradiction(scanner, item, f"the member {member.name!r} is not what it declares")
    else:
        known = Item(path, raw, item.depth + 1, format="unknown")
        known.errors.append(f"compression {member.method} is not read")
        scanner.items.append(known)
        return
    if crc != member.crc:
        _contradiction(scanner, item, f"the member {member.name!r} has a wrong checksum")
    scanner.scan(path, content, item.depth + 1, role)
    if file:
        file.close()
