"""A walk over pickle opcodes that builds nothing: names, calls and places are followed instead.

It keeps a stack and a memo as the unpickler does, so that a name counts wherever its text came
from, and it goes on to the very opcode at which a broken stream would fail: what stands before
that would have run. Opcodes: CPython, Lib/pickletools.py.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any

from modelward.scan.limits import Budget, LimitReachedError
from modelward.scan.pickle_checks import check_arguments, check_handed
from modelward.scan.pickle_machine import AfterBuild, Machine
from modelward.scan.pickle_states import check_methods
from modelward.scan.pickle_stream import BrokenPickleError, Stream
from modelward.scan.pickle_values import MARK, NUMBER, Global, Group, Persistent
from modelward.scan.report import Level

__all__ = ["walk"]

MAX_STACK = 5_000_000
MAX_MEMO = 5_000_000
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}


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
    machine = Machine(file, budget, after_build)
    stream = machine.stream
    try:
        while _step(machine):
            pass
    except BrokenPickleError as error:
        stream.broken = f"{error} at byte {machine.at} ({machine.opcode})"
    except LimitReachedError as error:
        stream.broken = str(error)
    stream.end = file.tell()
    return stream


def _step(machine: Machine) -> bool:
    """Execute one opcode; False after STOP."""
    machine.at = machine.file.tell()
    code = machine.file.read(1)
    if not code:
        raise BrokenPickleError("the stream ends without STOP")
    opcode = _OPCODES.get(code[0])
    if opcode is None:
        machine.opcode = f"0x{code.hex()}"
        raise BrokenPickleError("an unknown opcode")
    machine.opcode = name = opcode.name
    machine.stream.opcodes += 1
    if machine.stream.opcodes % 1024 == 0:
        machine.budget.spend("opcodes", 1024)
    if len(machine.stack) > MAX_STACK:
        raise LimitReachedError("more values on the pickle's stack than the scan holds")
    if name == "STOP":
        machine.stream.value = machine.pop()
        check_methods(machine)
        if machine.file.tell() < machine.frame_end:
            # readers differ in where the next pickle of the file begins: here, or behind the frame
            machine.alarm("MW-PKL-008", Level.HIGH, "a pickle that ends in the middle of a frame")
        return False
    argument = machine.arguments.read(opcode.arg) if opcode.arg else None
    handler = _HANDLERS.get(name)
    if handler:
        handler(machine, argument)
    else:
        machine.make(name, argument)
    return True


def _pop(machine: Machine, _: Any) -> None:
    if not machine.stack:
        raise BrokenPickleError("a value is taken from an empty stack")
    machine.stack.pop()


def _memoize(machine: Machine, key: Any) -> None:
    if len(machine.memo) >= MAX_MEMO:
        raise LimitReachedError("more entries in the pickle's memo than the scan holds")
    machine.memo[len(machine.memo) if key is None else _key(key)] = machine.top()


def _get(machine: Machine, key: Any) -> None:
    try:
        machine.push(machine.memo[_key(key)])
    except KeyError:
        raise BrokenPickleError(f"the memo has no entry {key}") from None


def _key(key: Any) -> int:
    if not isinstance(key, int) or key < 0:
        raise BrokenPickleError("a memo entry that is no number")
    return key


def _proto(machine: Machine, number: int) -> None:
    if number > 5:
        raise BrokenPickleError(f"protocol {number}")
    machine.protocol = number


def _stack_global(machine: Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _inst(machine: Machine, names: tuple[str, str]) -> None:
    machine.name(*names)  # first, as Python's own unpickler does
    function = machine.pop()
    items = machine.since_mark()
    check_handed(machine, items)
    machine.call(function, Group("tuple", items))


def _obj(machine: Machine, _: Any) -> None:
    items = machine.since_mark()
    if not items:
        raise BrokenPickleError("OBJ without a class")
    check_handed(machine, items[1:])
    machine.call(items[0], Group("tuple", items[1:]))


def _reduce(machine: Machine, _: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.call(function, args)


def _newobj(machine: Machine, _: Any) -> None:
    args, kind = machine.pop(), machine.pop()
    machine.call(kind, args, new=True)


def _newobj_ex(machine: Machine, _: Any) -> None:
    keywords, args, kind = machine.pop(), machine.pop(), machine.pop()
    check_arguments(machine, args)
    machine.call(kind, Group("tuple", [args, keywords]), new=True, keywords=True)


def _persid(machine: Machine, key: Any) -> None:
    found = Persistent(machine.pop() if key is None else key)
    machine.stream.persistent.append(found)
    machine.push(found.module if found.module else found)


def _extension(machine: Machine, code: int) -> None:
    machine.alarm("MW-PKL-006", Level.HIGH, f"a global from the extension registry (code {code})")
    machine.push(Global("copyreg extension", str(code), machine.at, machine.opcode))
    machine.stack[-1].level = Level.HIGH


def _set_item(machine: Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.add_items([key, value], pairs=True)


_HANDLERS: dict[str, Callable[[Machine, Any], None]] = {
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
    "BUILD": Machine.build,
    "APPEND": lambda machine, _: machine.add_items([machine.pop()]),
    "APPENDS": lambda machine, _: machine.add_items(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.since_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.add_items(machine.since_mark(), pairs=True),
    "PERSID": _persid,
    "BINPERSID": _persid,
    "EXT1": _extension,
    "EXT2": _extension,
    "EXT4": _extension,
    "NEXT_BUFFER": lambda machine, _: machine.push(NUMBER),
}
