"""Allowed functions that are harmless only with some arguments, and states that change methods."""

from collections.abc import Callable
from typing import Any, Protocol

from modelward.scan.pickle_stream import MAX_RAW, Stream
from modelward.scan.pickle_values import Call, Global, Group, Raw
from modelward.scan.report import Level

__all__ = ["CHECKED", "check_state", "odd"]

_RISKY_STATE = frozenset({"append", "extend", "add", "__setitem__"})
_HARMLESS_STATE = frozenset({"__module__", "__doc__", "__annotations__", "__torch_dispatch__"})


class Machine(Protocol):
    """What a check needs of the machine that walks."""

    stream: Stream

    def alarm(self, rule: str, level: Level, reason: str) -> None:
        """Note something that should not be there."""


def odd(machine: Machine, reason: str) -> None:
    """Note a call that honest pickles do not make."""
    machine.alarm("MW-PKL-004", Level.HIGH, reason)


def check_state(machine: Machine, group: Group) -> None:
    """Note a state whose keys take the place of methods."""
    for key in group.items[::2]:
        special = isinstance(key, str) and key.startswith("__") and key.endswith("__")
        if (special or key in _RISKY_STATE) and key not in _HARMLESS_STATE:
            machine.alarm("MW-PKL-005", Level.HIGH, f"a state that sets {key[:60]!r}")


def _check_reconstructor(machine: Machine, items: list[Any]) -> None:
    base = items[1] if len(items) > 1 else None
    if not isinstance(base, Global) or base.module != "builtins":
        odd(machine, "copyreg._reconstructor with a base class that is not built in")


def _check_rebuild(machine: Machine, items: list[Any]) -> None:
    first = items[0] if items else None
    if not isinstance(first, Global) or not first.full.startswith("torch._utils._rebuild"):
        odd(machine, "_rebuild_from_type_v2 with a function that rebuilds no tensor")


def _check_encode(machine: Machine, items: list[Any]) -> None:
    if len(items) != 2 or items[1] not in ("latin1", "latin-1"):
        odd(machine, "_codecs.encode with another codec than latin1")
    elif isinstance(items[0], str) and len(machine.stream.encoded) <= MAX_RAW:
        machine.stream.encoded.append(items[0].encode("latin-1", "replace"))


def _check_bytes(machine: Machine, items: list[Any]) -> None:
    size = items[0] if items else None
    if isinstance(size, int) and size > 2**30:
        machine.alarm("MW-PKL-009", Level.MEDIUM, f"{size} bytes are allocated by one opcode")


def _check_load(machine: Machine, items: list[Any]) -> None:
    """torch.load of the bytes that follow: they are scanned as the file that they are."""
    value = items[0] if len(items) == 1 else None
    if isinstance(value, Raw):
        machine.stream.loaded.append(value)
    elif isinstance(value, Call) and value.made_by("_codecs.encode"):
        text = value.args.items[0] if isinstance(value.args, Group) and value.args.items else None
        if isinstance(text, str):
            machine.stream.loaded.append(text.encode("latin-1", "replace"))
            return
        odd(machine, "_load_from_bytes with a text that is too long to follow")
    else:
        odd(machine, "_load_from_bytes with bytes that are only made while loading")


def _check_container(machine: Machine, items: list[Any]) -> None:
    value = items[0] if items else None
    if isinstance(value, Call) and value.made_by("builtins.range"):
        bounds = value.args.items if isinstance(value.args, Group) else []
        if not all(isinstance(n, int) and abs(n) < 2**28 for n in bounds):
            machine.alarm("MW-PKL-009", Level.MEDIUM, "a range is written out in full")


CHECKED: dict[str, Callable[[Machine, list[Any]], None]] = {
    "copyreg._reconstructor": _check_reconstructor,
    "torch._tensor._rebuild_from_type_v2": _check_rebuild,
    "_codecs.encode": _check_encode,
    "torch.storage._load_from_bytes": _check_load,
    "builtins.list": _check_container,
    "builtins.tuple": _check_container,
    "builtins.set": _check_container,
    "builtins.frozenset": _check_container,
    "builtins.bytes": _check_bytes,
    "builtins.bytearray": _check_bytes,
}
"""Allowed functions that are harmless only with some arguments."""
