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
    "check_methods",
    "check_stacking",
    "check_state",
    "odd",
]

_MAPPINGS = ("builtins.dict", "collections.OrderedDict", "collections.Counter",
             "collections.defaultdict")  # fmt: skip
_STACKING = frozenset({"sklearn.ensemble._stacking", "sklearn.ensemble.stacking"})
_ASKED = frozenset({"predict", "predict_proba", "decision_function"})
_MOST_MEMBERS = 4000
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


def odd(machine: Machine, reason: str) -> None:
    """Note a call that honest pickles do not make."""
    machine.alarm("MW-PKL-004", Level.HIGH, reason)


def check_state(machine: Machine, state: Any) -> None:
    """Note a state whose keys take the place of methods, or that only loading makes."""
    check_handed(machine, [state])
    parts = state.items if isinstance(state, Group) and state.kind == "tuple" else [state]
    for part in parts:
        if isinstance(part, Call) and part.made_by(*_MAPPINGS):
            if any(isinstance(one, Group | Call) for one in _items(part.args)):
                odd(machine, "a state whose keys are only made while loading")
            part = part.items  # noqa: PLW2901 - what was set on it afterwards
        if isinstance(part, Group):
            for key in part.risky:
                machine.alarm("MW-PKL-005", Level.HIGH, f"a state that sets {key[:60]!r}")


def check_stacking(machine: Machine, model: Call, state: Any) -> None:
    """Take note of the methods that a stacking model calls on what it holds, by their names."""
    if isinstance(model.function, Global) and model.function.module in _STACKING:
        table = state.table() if isinstance(state, Group) else None
        if table is None:
            odd(machine, "a stacking model without a plain state")
        elif "stack_method_" in table:
            machine.stream.methods.append(table["stack_method_"])


def check_methods(machine: Machine) -> None:
    """Note stacking models that call anything but what classifiers and regressors are asked."""
    for names in machine.stream.methods:
        listed = names.items if isinstance(names, Group) and names.kind == "list" else [None]
        if len(listed) > _MOST_MEMBERS or not all(
            isinstance(name, str) and name in _ASKED for name in listed
        ):
            odd(machine, "a stacking model that calls methods which are no predictions")


def check_handed(machine: Machine, values: list[Any]) -> None:
    """Note functions that are handed on as values and must not be."""
    for value in values:
        if isinstance(value, Global) and value.full in _NEVER_HANDED:
            odd(machine, f"{value.full} as a value, where honest pickles only call it")


def check_arguments(machine: Machine, args: Any) -> None:
    """Note arguments that are no tuple: Python's own unpickler takes them from anything."""
    if not isinstance(args, Group) or args.kind != "tuple":
        odd(machine, "a call whose arguments are no tuple")


def _items(value: Any) -> list[Any]:
    return value.items if isinstance(value, Group) else []


def _check_reconstructor(machine: Machine, items: list[Any]) -> None:
    base = items[1] if len(items) > 1 else None
    if not isinstance(base, Global) or base.module != "builtins":
        odd(machine, "copyreg._reconstructor with a base class that is not built in")


def _check_rebuild(machine: Machine, items: list[Any]) -> None:
    first = items[0] if items else None
    if not isinstance(first, Global) or not first.full.startswith("torch._utils._rebuild"):
        odd(machine, "_rebuild_from_type_v2 with a function that rebuilds no tensor")


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
    "numpy.random._pickle.__randomstate_ctor": _check_random,
    "numpy.random._pickle.__generator_ctor": _check_random,
    "numpy.random._pickle.__bit_generator_ctor": _check_bit_generator,
    "builtins.list": _check_container,
    "builtins.tuple": _check_container,
    "builtins.set": _check_container,
    "builtins.frozenset": _check_container,
    "builtins.bytes": _check_bytes,
    "builtins.bytearray": _check_bytes,
}
"""Allowed functions that are harmless only with some arguments."""
