"""Allowed functions that are harmless only with some arguments, and states that change methods."""

from collections.abc import Callable
from typing import Any, Protocol

from modelward.scan.pickle_stream import ARRAY_WRAPPER, MAX_RAW, Stream
from modelward.scan.pickle_values import Call, Global, Group, Raw
from modelward.scan.report import Level

__all__ = [
    "CHECKED",
    "check_arguments",
    "check_handed",
    "check_rebuilt",
    "odd",
]

_NEVER_HANDED = frozenset(
    {
        "_codecs.encode",
        "copyreg.__newobj__",
        "copyreg.__newobj_ex__",
        "copyreg._reconstructor",
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__randomstate_ctor",
        "torch._tensor._rebuild_from_type_v2",
        "torch.storage._load_from_bytes",
        ARRAY_WRAPPER,
    }
)
"""What only the walk's own look at a call keeps harmless: given to somebody else as a value, it
would be called where the walk does not see with what."""


class Machine(Protocol):
    """What a check needs of the machine that walks."""

    stream: Stream

    def alarm(self, rule: str, level: Level, reason: str) -> None:
        """Note something that should not be there."""

    def work(self, steps: int) -> None:
        """Pay for a look at many values."""


def odd(machine: Machine, reason: str) -> None:
    """Note a call that honest pickles do not make."""
    machine.alarm("MW-PKL-004", Level.HIGH, reason)


def check_handed(machine: Machine, values: list[Any]) -> None:
    """Note functions that are handed on as values and must not be."""
    for value in values:
        if isinstance(value, Global) and value.full in _NEVER_HANDED:
            odd(machine, f"{value.full} as a value, where honest pickles only call it")


def check_arguments(machine: Machine, args: Any) -> None:
    """Note arguments that are no tuple: Python's own unpickler takes them from anything."""
    if not isinstance(args, Group) or args.kind != "tuple":
        odd(machine, "a call whose arguments are no tuple")


def _check_reconstructor(machine: Machine, items: list[Any]) -> None:
    base = items[1] if len(items) > 1 else None
    if not isinstance(base, Global) or base.module != "builtins":
        odd(machine, "copyreg._reconstructor with a base class that is not built in")


def _check_rebuild(machine: Machine, items: list[Any]) -> None:
    first = items[0] if items else None
    if not isinstance(first, Global) or not first.full.startswith("torch._utils._rebuild"):
        odd(machine, "_rebuild_from_type_v2 with a function that rebuilds no tensor")


def check_rebuilt(items: list[Any]) -> tuple[str | None, list[Any]]:
    """What PyTorch sets on a tensor that it has rebuilt.

    Returns:
        Why the first argument is no tensor, or the state nothing that a tensor has; None: fine.
        And the states that are set on it.
    """
    tensor = items[0] if items else None
    maker = tensor.function if isinstance(tensor, Call) else None
    known = ("torch._utils._rebuild", "torch._tensor._rebuild")
    if not isinstance(maker, Global) or not maker.full.startswith(known):
        return "a parameter made of something that is no tensor", []
    return None, items[3:4]


def _check_random(machine: Machine, items: list[Any]) -> None:
    """The second argument is a function that numpy calls with the first."""
    known = "numpy.random._pickle.__bit_generator_ctor"
    if len(items) > 1 and not (isinstance(items[1], Global) and items[1].full == known):
        odd(machine, "a random generator made by a function of its own")


def _check_bit_generator(machine: Machine, items: list[Any]) -> None:
    kind = items[0] if items else None
    if isinstance(kind, Global) and kind.module.partition(".")[0] != "numpy":
        odd(machine, f"{kind.full} called as a random generator")


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


def _check_dtype(machine: Machine, items: list[Any]) -> None:
    """A scalar of a type with 2 GB is 2 GB."""
    code = items[0] if items else None
    digits = code.lstrip("<>=|")[1:] if isinstance(code, str) else ""
    if digits.isdecimal() and (len(digits) > 9 or int(digits) > 2**26):
        machine.alarm("MW-PKL-009", Level.MEDIUM, f"values of type {code!r:.40}")


def _check_container(machine: Machine, items: list[Any]) -> None:
    value = items[0] if items else None
    if isinstance(value, Call) and value.made_by("builtins.bytes", "builtins.bytearray"):
        sizes = value.args.items[:1] if isinstance(value.args, Group) else []
        if any(isinstance(size, Call) or (isinstance(size, int) and size > 2**24)
               for size in sizes):  # fmt: skip
            machine.alarm("MW-PKL-009", Level.MEDIUM, "bytes are written out in full")
    if isinstance(value, Call) and value.made_by("builtins.range"):
        bounds = value.args.items if isinstance(value.args, Group) else []
        if not all(isinstance(n, int) and abs(n) < 2**28 for n in bounds):
            machine.alarm("MW-PKL-009", Level.MEDIUM, "a range is written out in full")


CHECKED: dict[str, Callable[[Machine, list[Any]], None]] = {
    "copyreg._reconstructor": _check_reconstructor,
    "torch._tensor._rebuild_from_type_v2": _check_rebuild,
    "_codecs.encode": _check_encode,
    "numpy.dtype": _check_dtype,
    "torch.storage._load_from_bytes": _check_load,
    "numpy.random._pickle.__randomstate_ctor": _check_random,
    "numpy.random._pickle.__generator_ctor": _check_random,
    "numpy.random._pickle.__bit_generator_ctor": _check_bit_generator,
    "builtins.list": _check_container,
    "builtins.tuple": _check_container,
    "builtins.set": _check_container,
    "builtins.frozenset": _check_container,
    "collections.Counter": _check_container,
    "collections.OrderedDict": _check_container,
    "collections.deque": _check_container,
    "torch.Size": _check_container,
    "builtins.bytes": _check_bytes,
    "builtins.bytearray": _check_bytes,
}
"""Allowed functions that are harmless only with some arguments."""
