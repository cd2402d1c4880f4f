"""Tar archives."""

import tarfile

from modelward.scan.limits import UnreadableError
from modelward.scan.places import bad_name, roles
from modelward.scan.scanner import Item, Scanner

__all__ = ["read"]


def read(scanner: Scanner, item: Item) -> None:
    """Scan every member where it lies; links and special files are findings."""
    with item.blob.open() as file, tarfile.open(fileobj=file, mode="r:") as archive:
        members: list[tarfile.TarInfo] = []
        for member in archive:
            scanner.budget.tick()
            if len(members) >= scanner.limits.files:
                raise UnreadableError(f"more than {scanner.limits.files} members")
            members.append(member)
        places = roles(member.name for member in members)
        seen: set[str] = set()
        for member in members:
            if reason := bad_name(member.name) or ((member.islnk() or member.issym()) and bad_name(
                member.linkname
            )):  # fmt: skip
                scanner.finding(item, "MW-FMT-003", f"the name {member.name[:100]!r} has {reason}")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                scanner.finding(item, "MW-FMT-004", f"{member.name[:100]!r} is no plain file")
                continue
            if member.name in seen:
                item.errors.append(f"the member {member.name!r} occurs twice")
            seen.add(member.name)
            window = item.blob.window(member.offset_data, member.size)
            if window.size < member.size:
                item.errors.append(f"the member {member.name!r} is cut off")
            scanner.scan(
                f"{item.path}!{member.name}", window, item.depth + 1, places.get(member.name)
            )
        end = archive.offset
    rest = item.blob.window(end, item.blob.size - end)
    if any(chunk.strip(b"\0") for chunk in rest.chunks()):
        item.errors.append(f"bytes behind the end of the tar archive, at byte {end}")
