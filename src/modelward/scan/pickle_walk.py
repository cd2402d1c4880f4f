"""A walk over pickle opcodes that builds nothing: names, calls and places are followed instead.

It keeps a stack and a memo as the unpickler does, so that a name counts wherever its text came
from, and it goes on to the very opcode at which a broken stream would fail: what stands before
that would have run. Opcodes: CPython, Lib/pickletools.py.
"""

import os
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from modelward.scan.limits import Budget, LimitReachedError
from modelward.scan.pickle_names import effective, is_callable, judge
from modelward.scan.pickle_values import (
    MARK,
    NUMBER,
    TEXT,
    Call,
    Global,
    Group,
    Persistent,
    Raw,
    weight,
)
from modelward.scan.report import Level

__all__ = ["ARRAY_WRAPPER", "MAX_RAW", "BrokenPickleError", "ContradictionError", "Stream", "walk"]

MAX_NAME = 2**16
MAX_LINE = 2**26
"""Protocol 0 writes whole arrays as one line."""
MAX_TEXT = 2**20
MAX_STACK = 10_000_000
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TEXTS = frozenset(
    "BINSTRING BINUNICODE BINUNICODE8 SHORT_BINSTRING SHORT_BINUNICODE STRING UNICODE".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}
_FROM_MARK = {"LIST": "list", "TUPLE": "tuple", "DICT": "dict", "FROZENSET": "frozenset"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_RISKY_STATE = frozenset({"append", "extend", "add", "__setitem__"})


class BrokenPickleError(Exception):
    """The unpickler would fail here."""


class ContradictionError(BrokenPickleError):
    """Two readers would read this differently; no honest program writes it."""


@dataclass
class Alarm:
    """Something other than a name that should not be in a stream."""

    rule: str
    level: Level
    offset: int
    opcode: str
    reason: str


@dataclass
class Stream:
    """What one pickle does, up to its end or to where it breaks."""

    start: int
    end: int = 0
    globals: dict[tuple[str, str], Global] = field(default_factory=dict)
    called: set[tuple[str, str]] = field(default_factory=set)
    reduced: set[tuple[str, str]] = field(default_factory=set)
    """Those among the called that were called by other opcodes than NEWOBJ."""
    alarms: list[Alarm] = field(default_factory=list)
    raw: list[Raw] = field(default_factory=list)
    """Byte strings of at least ``MIN_RAW`` bytes."""
    loaded: list[Raw | bytes] = field(default_factory=list)
    """Bytes that are given to torch.load."""
    encoded: list[bytes] = field(default_factory=list)
    """Byte strings that protocols 0 to 2 write as text."""
    persistent: list[Persistent] = field(default_factory=list)
    value: Any = None
    broken: str | None = None
    """Why and where the stream breaks; None: it ends with STOP."""
    opcodes: int = 0
    calls: int = 0
    heaviest: int = 1
    """Nodes of its largest value with every repetition written out."""


MIN_RAW = 4
MAX_RAW = 100_000
"""Byte strings of one stream that are looked into."""
ARRAY_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
AfterBuild = Callable[[Call, IO[bytes]], Any]


def walk(file: IO[bytes], budget: Budget, after_build: AfterBuild | None = None) -> Stream:
    """Walk one stream from the file's position on; the position ends behind it.

    Args:
        file: Seekable.
        budget: Pays for every opcode.
        after_build: Called with every object that BUILD finished, to skip what its loader reads
            from the file itself (joblib's arrays). What it returns takes the object's place.

    Returns:
        The stream; ``broken`` says whether it is whole.

    Raises:
        UnreadableError: A limit of the scan is reached.
    """
    machine = _Machine(file, budget, after_build)
    stream = machine.stream
    try:
        while machine.step():
            pass
    except BrokenPickleError as error:
        stream.broken = f"{error} at byte {machine.at} ({machine.opcode})"
    except LimitReachedError as error:
        stream.broken = str(error)
    stream.end = file.tell()
    return stream


class _Machine:
    """Stack, memo and file of one stream."""

    def __init__(self, file: IO[bytes], budget: Budget, after_build: AfterBuild | None) -> None:
        self.file, self.budget, self.after_build = file, budget, after_build
        self.stream = Stream(start=file.tell())
        self.size = file.seek(0, os.SEEK_END)
        file.seek(self.stream.start)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.protocol = 0
        self.frame_end = 0
        self.at = self.stream.start
        self.opcode = "start"

    def step(self) -> bool:
        """Execute one opcode; False after STOP."""
        self.at = self.file.tell()
        code = self.file.read(1)
        if not code:
            raise BrokenPickleError("the stream ends without STOP")
        opcode = _OPCODES.get(code[0])
        if opcode is None:
            self.opcode = f"0x{code.hex()}"
            raise BrokenPickleError("an unknown opcode")
        self.opcode = name = opcode.name
        self.stream.opcodes += 1
        if self.stream.opcodes % 1024 == 0:
            self.budget.spend("opcodes", 1024)
        if len(self.stack) > MAX_STACK:
            raise LimitReachedError("more values on the pickle's stack than the scan holds")
        if name == "STOP":
            self.stream.value = self.pop()
            return False
        argument = self._argument(opcode.arg) if opcode.arg else None
        handler = _HANDLERS.get(name)
        if handler:
            handler(self, argument)
        else:
            self._make(name, argument)
        return True

    def _make(self, name: str, argument: Any) -> None:
        """Opcodes that push a value and do nothing else."""
        if name in _TEXTS:
            self.push(argument)
        elif name in _EMPTY:
            self.push(Group(_EMPTY[name], []))
        elif name in _FROM_MARK:
            self._group(_FROM_MARK[name], self.since_mark())
        elif name in _TUPLES:
            self._group("tuple", [self.pop() for _ in range(_TUPLES[name])][::-1])
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name])
        elif name == "FRAME":
            self.frame_end = self.file.tell() + argument
        elif name != "READONLY_BUFFER":
            self.push(argument if isinstance(argument, int | Raw) else NUMBER)

    def _group(self, kind: str, items: list[Any]) -> None:
        made = Group(kind, items)
        self.stream.heaviest = max(self.stream.heaviest, made.weight)
        self.push(made)

    # reading

    def _argument(self, descriptor: Any) -> Any:
        kind, size = descriptor.name, descriptor.n
        if size >= 0:
            content = self._take(size)
            if kind == "float8":
                return NUMBER
            return int.from_bytes(content, "little", signed=kind == "int4")
        if size == pickletools.UP_TO_NEWLINE:
            return (self._line(), self._line()) if "pair" in kind else self._line_value(kind)
        return self._sized(kind, int.from_bytes(self._take(_LENGTH_BYTES[size]), "little"))

    def _sized(self, kind: str, size: int) -> Any:
        """A value that follows its length; large ones are skipped, not read."""
        start = self.file.tell()
        if start + size > self.size:
            raise BrokenPickleError("the stream is cut off inside a value")
        if kind.startswith("long"):
            if size <= 64:
                return int.from_bytes(self._take(size), "little", signed=True)
            self.file.seek(start + size)
            return NUMBER
        is_text = kind.startswith(("unicode", "string"))
        if not kind.startswith("unicode") and MIN_RAW <= size and len(self.stream.raw) <= MAX_RAW:
            self.stream.raw.append(Raw(start, size))
        if not is_text or size > MAX_TEXT:
            self.file.seek(start + size)
            return TEXT if is_text else Raw(start, size)
        content = self._take(size)
        try:
            if kind.startswith("string"):
                return content.decode("latin-1")
            return content.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise BrokenPickleError("a text that is no UTF-8") from None

    def _line_value(self, kind: str) -> Any:
        line = self._line(MAX_LINE)
        if kind == "stringnl":
            if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
                raise BrokenPickleError("a text without quotes")
            return line[1:-1].encode("latin-1", "replace").decode("unicode_escape", "replace")
        if kind == "unicodestringnl":
            return line.encode("latin-1", "replace").decode("raw_unicode_escape", "replace")
        if kind == "stringnl_noescape":
            return line
        try:
            return int(line.rstrip("L"), 0) if len(line) < 400 else NUMBER
        except ValueError:
            try:
                return int(line)  # memo keys may be written as 010
            except ValueError:
                return NUMBER

    def _line(self, limit: int = MAX_NAME) -> str:
        line = self.file.readline(limit)
        if len(line) == limit:
            raise BrokenPickleError("a line without end")
        # at the end of the file Python's own unpickler, which joblib uses, cuts off any byte
        try:
            return line[:-1].decode("utf-8")
        except UnicodeDecodeError:
            return line[:-1].decode("latin-1")

    def _take(self, size: int) -> bytes:
        content = self.file.read(size)
        if len(content) < size:
            raise BrokenPickleError("the stream is cut off")
        return content

    # the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise BrokenPickleError("a value is taken from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise BrokenPickleError("a value is taken from an empty stack")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise BrokenPickleError("no mark on the stack")

    # names and calls

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            self.alarm(
                "MW-PKL-003", Level.CRITICAL, "a global whose name is only made while loading"
            )
            self.push(Global("?", "?", self.at, self.opcode))
            self.stack[-1].level = Level.CRITICAL
            return
        found = Global(*effective(module, name, self.protocol), self.at, self.opcode)
        known = self.stream.globals.get((found.module, found.name))
        if known is not None:
            self.push(known)
            return
        found.level = judge(found.module, found.name)
        found.callable = is_callable(found.module, found.name)
        self.stream.globals[found.module, found.name] = found
        self.push(found)

    def call(self, function: Any, args: Any, *, new: bool = False) -> None:
        """Push the result of a call; ``new`` for NEWOBJ, which runs ``__new__`` only."""
        self.stream.calls += 1
        if isinstance(function, Global):
            self.stream.called.add((function.module, function.name))
            if not new:
                self.stream.reduced.add((function.module, function.name))
            if function.level is None:
                self._check_call(function, args, new)
        else:
            self.alarm("MW-PKL-004", Level.HIGH, "a call of something that is no global")
        self.push(Call(function, args, self.at))
        self.stream.heaviest = max(self.stream.heaviest, weight(self.stack[-1]))

    def _check_call(self, function: Global, args: Any, new: bool) -> None:
        items = args.items if isinstance(args, Group) else []
        if any(isinstance(item, Global) and item.full == ARRAY_WRAPPER for item in items):
            # the loader would read an array from the file where the walk sees none
            self._odd("joblib's array wrapper made in an unusual way")
        if not new and not function.callable:
            self._odd(f"a call of {function.full}, which honest pickles only refer to or make new")
        check = _CHECKED.get(function.full)
        if check:
            check(self, items)

    def _odd(self, reason: str) -> None:
        self.alarm("MW-PKL-004", Level.HIGH, reason)

    def alarm(self, rule: str, level: Level, reason: str) -> None:
        if len(self.stream.alarms) < 1000:
            self.stream.alarms.append(Alarm(rule, level, self.at, self.opcode, reason))

    def build(self, _: Any) -> None:
        state = self.pop()
        target = self.top()
        if isinstance(target, Global):
            self.alarm("MW-PKL-005", Level.HIGH, f"the state of {target.full} itself is changed")
        groups = state.items if isinstance(state, Group) and state.kind == "tuple" else [state]
        for group in groups:
            if isinstance(group, Group) and group.kind == "dict":
                self._check_state(group)
        if isinstance(target, Call):
            target.state = state
            target.weight += weight(state)
            try:
                self._finish(target)
            except ContradictionError as error:
                self.alarm("MW-PKL-008", Level.HIGH, str(error))
                raise

    def _finish(self, target: Call) -> None:
        """What the loader does with a finished object beside unpickling it."""
        if target.made_by(ARRAY_WRAPPER) and self.file.tell() < self.frame_end:
            # joblib would read the array from behind the frame, and go on inside it
            raise ContradictionError("an array in the middle of a frame")
        if self.after_build and (made := self.after_build(target, self.file)) is not None:
            self.stack[-1] = made

    def _check_state(self, group: Group) -> None:
        for key in group.items[::2]:
            if isinstance(key, str) and (
                key in _RISKY_STATE or (key.startswith("__") and key.endswith("__"))
            ):
                if key not in _HARMLESS_STATE:
                    self.alarm("MW-PKL-005", Level.HIGH, f"a state that sets {key[:60]!r}")

    def add_items(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Group):
            target.add(items)
            self.stream.heaviest = max(self.stream.heaviest, target.weight)
        elif isinstance(target, Global):
            self.alarm("MW-PKL-005", Level.HIGH, f"the items of {target.full} itself are changed")


_HARMLESS_STATE = frozenset({"__module__", "__doc__", "__annotations__", "__torch_dispatch__"})


def _check_reconstructor(machine: _Machine, items: list[Any]) -> None:
    base = items[1] if len(items) > 1 else None
    if not isinstance(base, Global) or base.module != "builtins":
        machine._odd("copyreg._reconstructor with a base class that is not built in")


def _check_rebuild(machine: _Machine, items: list[Any]) -> None:
    first = items[0] if items else None
    if not isinstance(first, Global) or not first.full.startswith("torch._utils._rebuild"):
        machine._odd("_rebuild_from_type_v2 with a function that rebuilds no tensor")


def _check_encode(machine: _Machine, items: list[Any]) -> None:
    if len(items) != 2 or items[1] not in ("latin1", "latin-1"):
        machine._odd("_codecs.encode with another codec than latin1")
    elif isinstance(items[0], str) and len(machine.stream.encoded) <= MAX_RAW:
        machine.stream.encoded.append(items[0].encode("latin-1", "replace"))


def _check_bytes(machine: _Machine, items: list[Any]) -> None:
    size = items[0] if items else None
    if isinstance(size, int) and size > 2**30:
        machine.alarm("MW-PKL-009", Level.MEDIUM, f"{size} bytes are allocated by one opcode")


def _check_load(machine: _Machine, items: list[Any]) -> None:
    """torch.load of the bytes that follow: they are scanned as the file that they are."""
    value = items[0] if len(items) == 1 else None
    if isinstance(value, Raw):
        machine.stream.loaded.append(value)
    elif isinstance(value, Call) and value.made_by("_codecs.encode"):
        text = value.args.items[0] if isinstance(value.args, Group) and value.args.items else None
        if isinstance(text, str):
            machine.stream.loaded.append(text.encode("latin-1", "replace"))
            return
        machine._odd("_load_from_bytes with a text that is too long to follow")
    else:
        machine._odd("_load_from_bytes with bytes that are only made while loading")


def _check_container(machine: _Machine, items: list[Any]) -> None:
    value = items[0] if items else None
    if isinstance(value, Call) and value.made_by("builtins.range"):
        bounds = value.args.items if isinstance(value.args, Group) else []
        if not all(isinstance(n, int) and abs(n) < 2**28 for n in bounds):
            machine.alarm("MW-PKL-009", Level.MEDIUM, "a range is written out in full")


_CHECKED: dict[str, Callable[[_Machine, list[Any]], None]] = {
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


def _pop(machine: _Machine, _: Any) -> None:
    if not machine.stack:
        raise BrokenPickleError("a value is taken from an empty stack")
    machine.stack.pop()


def _memoize(machine: _Machine, key: Any) -> None:
    machine.memo[len(machine.memo) if key is None else _key(key)] = machine.top()


def _get(machine: _Machine, key: Any) -> None:
    try:
        machine.push(machine.memo[_key(key)])
    except KeyError:
        raise BrokenPickleError(f"the memo has no entry {key}") from None


def _key(key: Any) -> int:
    if not isinstance(key, int) or key < 0:
        raise BrokenPickleError("a memo entry that is no number")
    return key


def _proto(machine: _Machine, number: int) -> None:
    if number > 5:
        raise BrokenPickleError(f"protocol {number}")
    machine.protocol = number


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _inst(machine: _Machine, names: tuple[str, str]) -> None:
    machine.name(*names)  # first, as Python's own unpickler does
    function = machine.pop()
    machine.call(function, Group("tuple", machine.since_mark()))


def _obj(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    if not items:
        raise BrokenPickleError("OBJ without a class")
    machine.call(items[0], Group("tuple", items[1:]))


def _reduce(machine: _Machine, _: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.call(function, args)


def _newobj(machine: _Machine, _: Any) -> None:
    args, kind = machine.pop(), machine.pop()
    machine.call(kind, args, new=True)


def _newobj_ex(machine: _Machine, _: Any) -> None:
    keywords, args, kind = machine.pop(), machine.pop(), machine.pop()
    machine.call(kind, Group("tuple", [args, keywords]), new=True)


def _persid(machine: _Machine, key: Any) -> None:
    found = Persistent(machine.pop() if key is None else key)
    machine.stream.persistent.append(found)
    machine.push(found)


def _extension(machine: _Machine, code: int) -> None:
    machine.alarm("MW-PKL-006", Level.HIGH, f"a global from the extension registry (code {code})")
    machine.push(Global("copyreg extension", str(code), machine.at, machine.opcode))
    machine.stack[-1].level = Level.HIGH


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.add_items([key, value])


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _proto,
    "MARK": lambda machine, _: machine.push(MARK),
    "POP": _pop,
    "POP_MARK": lambda machine, _: (machine.since_mark(), None)[1],
    "DUP": lambda machine, _: machine.push(machine.top()),
    "PUT": _memoize,
    "BINPUT": _memoize,
    "LONG_BINPUT": _memoize,
    "MEMOIZE": _memoize,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "GLOBAL": lambda machine, names: machine.name(*names),
    "STACK_GLOBAL": _stack_global,
    "INST": _inst,
    "OBJ": _obj,
    "REDUCE": _reduce,
    "NEWOBJ": _newobj,
    "NEWOBJ_EX": _newobj_ex,
    "BUILD": _Machine.build,
    "APPEND": lambda machine, _: machine.add_items([machine.pop()]),
    "APPENDS": lambda machine, _: machine.add_items(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.since_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.add_items(machine.since_mark()),
    "PERSID": _persid,
    "BINPERSID": _persid,
    "EXT1": _extension,
    "EXT2": _extension,
    "EXT4": _extension,
    "NEXT_BUFFER": lambda machine, _: machine.push(NUMBER),
}
