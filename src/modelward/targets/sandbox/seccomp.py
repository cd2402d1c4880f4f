"""A filter of system calls for the sandbox: no new namespaces, no odd sockets, no unseen memory.

Namespaces keep files, processes and networks apart; the filter closes what they leave open. Where
code in the sandbox could make a user namespace of its own it would hold every capability inside,
which is how most escapes through the kernel begin. Sockets to the hypervisor (AF_VSOCK) ignore
network namespaces. Memory of ``memfd_create`` and System V segments is counted by no limit.

Classic BPF as in seccomp(2); the numbers are those of the kernel's system call tables.
"""

import platform
import struct

__all__ = ["filter_program"]

_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_NEW_NAMESPACE = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_SOCKETS = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6: all end in the sandbox's own empty network."""
_X32 = 0x40000000

_NAMES = (
    "ptrace process_vm_readv process_vm_writev mount umount2 pivot_root swapon reboot kexec_load "
    "kexec_file_load init_module finit_module delete_module bpf perf_event_open userfaultfd keyctl "
    "add_key request_key unshare setns memfd_create shmget msgget open_by_handle_at "
    "name_to_handle_at quotactl acct syslog lookup_dcookie clone socket"
).split()
_COMMON = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "mount_setattr": 442,
    "memfd_secret": 447, "clone3": 435,
}  # fmt: skip
_NUMBERS = {
    "x86_64": (
        0xC000003E,
        (101, 310, 311, 165, 166, 155, 167, 169, 246, 320, 175, 313, 176, 321, 298, 323, 250,
         248, 249, 272, 308, 319, 29, 68, 304, 303, 179, 163, 103, 212, 56, 41),
    ),
    "aarch64": (
        0xC00000B7,
        (117, 270, 271, 40, 39, 41, 224, 142, 104, 294, 105, 273, 106, 280, 241, 282, 219,
         217, 218, 97, 268, 279, 194, 186, 265, 264, 60, 89, 116, 18, 220, 198),
    ),
}  # fmt: skip
_MISSING = frozenset({"memfd_create", "memfd_secret", "clone3"})
"""Answered with ENOSYS, so that libraries fall back to the older call."""


def filter_program(machine: str | None = None) -> bytes:
    """The filter for bubblewrap's ``--seccomp``; empty where the machine's table is not known."""
    machine = machine or platform.machine()
    if machine not in _NUMBERS:
        return b""
    architecture, numbers = _NUMBERS[machine]
    table = {**dict(zip(_NAMES, numbers, strict=True)), **_COMMON}
    clone, socket = table.pop("clone"), table.pop("socket")
    # A line: (code, value) or (code, value, label where it holds); a text is a label.
    lines: list[str | tuple[int, int] | tuple[int, int, str]] = [
        (_LOAD, _ARCHITECTURE),
        (_EQUAL, architecture, "known"),
        (_RETURN, _KILL),
        "known",
        (_LOAD, _NUMBER),
        (_AT_LEAST, _X32, "denied"),
        *((_EQUAL, table[name], "missing") for name in sorted(_MISSING)),
        *((_EQUAL, table[name], "denied") for name in sorted(set(table) - _MISSING)),
        (_EQUAL, clone, "clone"),
        (_EQUAL, socket, "socket"),
        (_RETURN, _ALLOW),
        "clone",
        (_LOAD, _FIRST_ARGUMENT),
        (_ANY_BIT, _NEW_NAMESPACE, "denied"),
        (_RETURN, _ALLOW),
        "socket",
        (_LOAD, _FIRST_ARGUMENT),
        *((_EQUAL, family, "familiar") for family in _SOCKETS),
        (_RETURN, _ERROR | _EAFNOSUPPORT),
        "familiar",
        (_RETURN, _ALLOW),
        "denied",
        (_RETURN, _ERROR | _EPERM),
        "missing",
        (_RETURN, _ERROR | _ENOSYS),
    ]
    return _assembled(lines)


def _assembled(lines: list[str | tuple[int, int] | tuple[int, int, str]]) -> bytes:
    """Machine code; jumps go forward only and fall through where the test fails."""
    places: dict[str, int] = {}
    count = 0
    for line in lines:
        if isinstance(line, str):
            places[line] = count
        else:
            count += 1
    code: list[bytes] = []
    for line in lines:
        if not isinstance(line, str):
            jump = places[line[2]] - len(code) - 1 if len(line) == 3 else 0
            code.append(struct.pack("<HBBI", line[0], jump, 0, line[1]))
    return b"".join(code)
