"""The stack, the memo and the calls of an unpickler that builds nothing."""

from collections.abc import Callable
from typing import IO, Any

from modelward.scan.limits import Budget, LimitReachedError
from modelward.scan.pickle_arguments import Arguments
from modelward.scan.pickle_checks import (
    CHECKED,
    check_arguments,
    check_handed,
    check_rebuilt,
    odd,
)
from modelward.scan.pickle_dtypes import dtype_problem
from modelward.scan.pickle_making import (
    check_adding,
    check_given,
    check_keys,
    check_making,
    made_class,
)
from modelward.scan.pickle_names import effective, is_callable, judge
from modelward.scan.pickle_states import check_model, check_state
from modelward.scan.pickle_stream import (
    ARRAY_WRAPPER,
    Alarm,
    BrokenPickleError,
    ContradictionError,
    Stream,
)
from modelward.scan.pickle_values import MARK, NUMBER, Call, Global, Group, Raw, weight
from modelward.scan.report import Level

__all__ = ["AfterBuild", "Machine"]

AfterBuild = Callable[[Call, IO[bytes]], Any]
_REBUILT = frozenset(
    {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
)
MAX_MADE = 8_000_000
"""Containers and objects of one pickle: each takes the scan some 150 bytes."""
_TEXTS = frozenset(
    "BINSTRING BINUNICODE BINUNICODE8 SHORT_BINSTRING SHORT_BINUNICODE STRING UNICODE".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}
_FROM_MARK = {"LIST": "list", "TUPLE": "tuple", "DICT": "dict", "FROZENSET": "frozenset"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Machine:
    """Stack, memo and file of one stream.

    Attributes:
        stream: What was found out so far.
        at: Byte of the opcode that is being executed.
        opcode: Its name.
        protocol: From PROTO; decides whether names are mapped.
        frame_end: Byte behind the last FRAME.
    """

    def __init__(self, file: IO[bytes], budget: Budget, after_build: AfterBuild | None) -> None:
        self.file, self.budget, self.after_build = file, budget, after_build
        self.stream = Stream(start=file.tell())
        self.arguments = Arguments(file, self.stream)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.protocol = 0
        self.frame_end = 0
        self.made = 0
        self.at = self.stream.start
        self.opcode = "start"

    def make(self, name: str, argument: Any) -> None:
        """Opcodes that push a value and do nothing else."""
        if name in _TEXTS:
            self.push(argument)
        elif name in _EMPTY:
            self.count()
            self.push(Group(_EMPTY[name], []))
        elif name in _FROM_MARK:
            self._group(_FROM_MARK[name], self.since_mark())
        elif name in _TUPLES:
            self._group("tuple", [self.pop() for _ in range(_TUPLES[name])][::-1])
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name])
        elif name == "FRAME":
            self.frame_end = max(self.frame_end, self.file.tell() + argument)
        elif name != "READONLY_BUFFER":
            self.push(argument if isinstance(argument, int | Raw) else NUMBER)

    def _group(self, kind: str, items: list[Any]) -> None:
        check_handed(self, items)
        made = Group(kind, items)
        self.count()
        if kind == "dict":
            check_keys(self, items[::2], made)
        self.stream.heaviest = max(self.stream.heaviest, made.weight)
        self.push(made)

    def count(self) -> None:
        """Note that something was made which the scan has to hold.

        Raises:
            LimitReachedError: It is more than the scan holds.
        """
        self.made += 1
        if self.made > MAX_MADE:
            raise LimitReachedError(f"more than {MAX_MADE} objects in one pickle")

    def work(self, steps: int) -> None:
        """Pay for a look at many values, which a short pickle can ask for again and again."""
        if steps > 16:
            self.budget.spend("opcodes", steps // 8)

    # the stack

    def push(self, value: Any) -> None:
        """Push a value."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the top value; the unpickler would fail where there is none above the mark."""
        if not self.stack or self.stack[-1] is MARK:
            raise BrokenPickleError("a value is taken from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        """The top value, left where it is."""
        if not self.stack or self.stack[-1] is MARK:
            raise BrokenPickleError("a value is taken from an empty stack")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise BrokenPickleError("no mark on the stack")

    # names and calls

    def name(self, module: Any, name: Any) -> None:
        """Push a global, judged; a name that is no plain text is an alarm."""
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

    def call(self, function: Any, args: Any, *, new: bool = False, keywords: bool = False) -> None:
        """Push the result of a call.

        Args:
            function: What is called.
            args: Its arguments; for ``keywords`` a pair of them and the keywords.
            new: NEWOBJ and NEWOBJ_EX, which run ``__new__`` only.
            keywords: NEWOBJ_EX.
        """
        self.stream.calls += 1
        check_arguments(self, args)
        if isinstance(function, Global):
            self.stream.called.add((function.module, function.name))
            if not new:
                self.stream.reduced.add((function.module, function.name))
            if function.level is None:
                self._check_call(function, args, new)
            inner, given, forwarded = made_class(function, args)
            if forwarded:
                keywords, new = function.name == "__newobj_ex__", True
                function, args = inner, given
                self.stream.called.add((function.module, function.name))
            if new and function.level is None:
                check_making(self, function, args, keywords=keywords)
        else:
            self.alarm("MW-PKL-004", Level.HIGH, "a call of something that is no global")
        self.count()
        self.push(Call(function, args, self.at))
        self.stream.heaviest = max(self.stream.heaviest, weight(self.stack[-1]))

    def _check_call(self, function: Global, args: Any, new: bool) -> None:
        items = args.items if isinstance(args, Group) else []
        if not new and not function.callable:
            odd(self, f"a call of {function.full}, which honest pickles only refer to or make new")
        check_given(self, function, items)
        check = CHECKED.get(function.full)
        if check:
            check(self, items)
        if function.full in _REBUILT:
            wrong, states = check_rebuilt(items)
            if wrong:
                odd(self, wrong)
            for state in states:
                check_state(self, state)
        elif function.full == "torch._tensor._rebuild_from_type_v2":
            for state in items[3:4]:
                check_state(self, state)

    def alarm(self, rule: str, level: Level, reason: str) -> None:
        """Note something that should not be there."""
        if len(self.stream.alarms) < 1000 or level > self.stream.alarms[-1].level:
            self.stream.alarms.append(Alarm(rule, level, self.at, self.opcode, reason))

    def build(self, _: Any) -> None:
        """BUILD: give an object its state."""
        state = self.pop()
        target = self.top()
        if isinstance(target, Global):
            self.alarm("MW-PKL-005", Level.HIGH, f"the state of {target.full} itself is changed")
        check_state(self, state)
        if isinstance(target, Call):
            is_dtype = target.made_by("numpy.dtype")
            if is_dtype and isinstance(state, Group):
                self.work(sum(8 * len(x.items) for x in state.items[:9] if isinstance(x, Group)))
            wrong = is_dtype and dtype_problem(target, state)
            if wrong:
                self.alarm("MW-PKL-008", Level.HIGH, wrong)
            check_model(self, target, state)
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

    def add_items(self, items: list[Any], *, pairs: bool = False) -> None:
        """Add to the container on top of the stack; ``pairs`` for keys and values in turn."""
        check_handed(self, items)
        target = self.top()
        if pairs:
            check_keys(self, items[::2], target)
        if isinstance(target, Group):
            target.add(items)
            self.stream.heaviest = max(self.stream.heaviest, target.weight)
        elif isinstance(target, Call) and pairs:
            target.items = target.items or Group("dict", [])
            target.items.add(items)
        elif isinstance(target, Call):
            check_adding(self, target)
        elif isinstance(target, Raw):
            odd(self, "bytes that are changed while loading, unseen by the scan")
        elif isinstance(target, Global):
            self.alarm("MW-PKL-005", Level.HIGH, f"the items of {target.full} itself are changed")
