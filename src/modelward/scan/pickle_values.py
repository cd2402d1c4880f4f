"""Stand-ins for what a pickle would build: enough to follow names, calls and sizes."""

import re
from typing import Any

from modelward.scan.report import Level

__all__ = [
    "MARK",
    "NUMBER",
    "TEXT",
    "Call",
    "Global",
    "Group",
    "Persistent",
    "Raw",
    "is_interface",
    "takes_place",
    "weight",
]

_KEPT = 4096
"""Items of one container that are kept; more are only counted."""
_HEAVY = 10**15
_MOST_RISKY = 10
_METHODS = frozenset({"append", "extend", "add", "__setitem__"})
"""What the unpickler itself calls on an object."""
_HARMLESS = frozenset({"__module__", "__doc__", "__annotations__", "__torch_dispatch__"})
_INTERFACE = re.compile(r"__(array\w*|cuda_array_interface|dlpack\w*|arrow_c_\w+|dataframe)__")


class _Sign:
    """A value of which only the kind matters."""

    def __init__(self, name: str) -> None:
        self.name = name


MARK = _Sign("mark")
NUMBER = _Sign("number")
TEXT = _Sign("text")
"""A text too long to be a name."""


class Global:
    """A class or function that the pickle names; ``level`` is None where it is allowed."""

    __slots__ = ("callable", "level", "module", "name", "offset", "opcode")

    def __init__(self, module: str, name: str, offset: int, opcode: str) -> None:
        self.module, self.name, self.offset, self.opcode = module, name, offset, opcode
        self.level: Level | None = None
        self.callable = False

    @property
    def full(self) -> str:
        """Module and name."""
        return f"{self.module}.{self.name}"


class Raw:
    """Bytes inside the pickle, by place."""

    __slots__ = ("offset", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset, self.size = offset, size


class Group:
    """A list, tuple, set or dict; a dict's items are its keys and values in turn.

    Attributes:
        risky: Keys of a dict that would take the place of a method where it becomes a state; noted
            as they are added, because only so many items are kept.
        made: Whether one of a dict's keys is only made while loading.
    """

    __slots__ = ("items", "kind", "made", "risky", "weight")

    def __init__(self, kind: str, items: list[Any]) -> None:
        self.kind = kind
        self.items: list[Any] = []
        self.risky: tuple[str, ...] = ()
        self.made = False
        self.weight = 1
        self.add(items)

    def add(self, items: list[Any]) -> None:
        """Append items."""
        self.items += items[: max(0, _KEPT - len(self.items))]
        self.weight = min(_HEAVY, self.weight + sum(map(weight, items)))
        if self.kind == "dict" and items:
            keys = items[::2]
            self.made = self.made or any(isinstance(key, Call) or key is TEXT for key in keys)
            if len(self.risky) < _MOST_RISKY:
                self.risky += tuple(filter(takes_place, keys))

    def table(self) -> dict[str, Any] | None:
        """A dict with texts as keys, the last of equal ones winning; None where it is no such."""
        keys = self.items[::2]
        if self.kind != "dict" or len(self.items) >= _KEPT or len(self.items) % 2:
            return None
        if not all(isinstance(key, str) for key in keys):
            return None
        return dict(zip(keys, self.items[1::2], strict=True))


class Call:
    """The result of calling or making something, with the state that BUILD gave it."""

    __slots__ = ("args", "function", "items", "offset", "state", "weight")

    def __init__(self, function: Any, args: Any, offset: int) -> None:
        self.function, self.args, self.offset = function, args, offset
        self.state: Any = None
        self.items: Group | None = None
        """Keys and values that were set on it, as on an OrderedDict."""
        self.weight = min(_HEAVY, 1 + weight(function) + weight(args))

    def made_by(self, *names: str) -> bool:
        """Whether the function has one of these full names."""
        return isinstance(self.function, Global) and self.function.full in names


class Persistent:
    """An object that lies outside the pickle, such as a tensor's storage."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    @property
    def module(self) -> Global | None:
        """The class in PyTorch's old ("module", class, file, source); None: another id."""
        items = self.key.items if isinstance(self.key, Group) else []
        found = len(items) == 4 and items[0] == "module" and isinstance(items[1], Global)
        return items[1] if found else None


def takes_place(key: Any) -> bool:
    """Whether an attribute of this name changes what an object does."""
    special = isinstance(key, str) and key.startswith("__") and key.endswith("__")
    return (special or (isinstance(key, str) and key in _METHODS)) and key not in _HARMLESS


def is_interface(key: Any) -> bool:
    """Whether numpy and others ask for an attribute of this name, and believe what it says.

    ``__array_interface__`` gives the address of the values: any place in the process.
    """
    return isinstance(key, str) and _INTERFACE.fullmatch(key) is not None


def weight(value: Any) -> int:
    """Nodes that a value has when every repetition is written out."""
    if isinstance(value, Group | Call):
        return value.weight
    return 1
