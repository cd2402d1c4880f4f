"""What objects are made with: a class is harmless only with the arguments that honest pickles give.

The constructors of native classes take addresses (``torch.Tensor(cdata=...)``,
``UntypedStorage(allocator=...)``) or read other objects' attributes as such (``numpy.matrix``), and
some functions make whatever class they are given.
"""

from typing import Any, Protocol

from modelward.scan.pickle_values import Call, Global, Group, is_interface, takes_place
from modelward.scan.report import Level

__all__ = ["check_adding", "check_given", "check_keys", "check_making", "made_class"]

_NAMED_TUPLES = frozenset(
    {
        "sklearn._loss.link.Interval",
        "sklearn.gaussian_process.kernels.Hyperparameter",
        "sklearn.loss.link.Interval",
    }
)
"""Made by ``__new__`` with their values, by honest pickles too."""
_FORWARDING = {
    "copyreg.__newobj__": 1,
    "copyreg.__newobj_ex__": 1,
    "sklearn.metrics._dist_metrics.newObj": 1,
    "sklearn.neighbors._ball_tree.newObj": 1,
    "sklearn.neighbors._dist_metrics.newObj": 1,
    "sklearn.neighbors._kd_tree.newObj": 1,
    "copyreg._reconstructor": 3,
}
"""Functions that make the class in their first argument, and where its own arguments begin."""
_GIVEN = {
    "pandas.core.indexes.base._new_Index": "pandas",
    "pandas.core.indexes.datetimes._new_DatetimeIndex": "pandas",
    "numpy.ma.core._mareconstruct": "numpy",
    "sklearn.metrics._dist_metrics.newObj": "sklearn",
    "sklearn.neighbors._ball_tree.newObj": "sklearn",
    "sklearn.neighbors._dist_metrics.newObj": "sklearn",
    "sklearn.neighbors._kd_tree.newObj": "sklearn",
}
"""Functions that make a class they are given, and the package that it has to be of."""
_GROWING = ("builtins.list", "builtins.set", "collections.deque")
_TREES = ("_kd_tree", "_ball_tree", "_dist_metrics")


class Machine(Protocol):
    """What a check needs of the machine that walks."""

    def alarm(self, rule: str, level: Level, reason: str) -> None:
        """Note something that should not be there."""


def _odd(machine: Machine, reason: str) -> None:
    machine.alarm("MW-PKL-004", Level.HIGH, reason)


def made_class(function: Any, args: Any) -> tuple[Any, Any, bool]:
    """The class that a call makes in the end.

    Returns:
        Class or function, its arguments, and whether only its ``__new__`` runs.
    """
    if not isinstance(function, Global) or not isinstance(args, Group) or not args.items:
        return function, args, False
    start = _FORWARDING.get(function.full)
    if start is None or not isinstance(args.items[0], Global):  # noted by check_given
        return function, args, False
    return args.items[0], Group("tuple", args.items[start:]), True


def check_making(machine: Machine, function: Global, args: Any, *, keywords: bool) -> None:
    """Note a class that is made by ``__new__`` with arguments that honest pickles do not give.

    Args:
        machine: Takes the alarm.
        function: An allowed class.
        args: What it gets; the keywords last, where there are any.
        keywords: Whether the call can carry keywords.
    """
    items = args.items if isinstance(args, Group) else []
    if keywords:
        if len(items) > 1 and not (isinstance(items[1], Group) and not items[1].items):
            _odd(machine, f"{function.full} made with keywords")
        first = items[0] if items else None
        items = first.items if isinstance(first, Group) else items[:1]
    if items and not function.callable and function.full not in _NAMED_TUPLES:
        _odd(machine, f"{function.full} made with arguments, which honest pickles give it as state")


def check_given(machine: Machine, function: Global, items: list[Any]) -> None:
    """Note a function that is given a class to make which is none of its own kind."""
    kind = items[0] if items else None
    if function.full in _FORWARDING and not isinstance(kind, Global):
        _odd(machine, f"{function.full} with something else than a class")
    package = _GIVEN.get(function.full)
    if package is None:
        return
    if not isinstance(kind, Global) or not _is_own(function, kind, package):
        _odd(machine, f"{function.full} with a class that is none of its own")
    for table in items[1:2] if package == "pandas" else []:
        keywords = table.table() if isinstance(table, Group) else None
        if keywords is None:
            _odd(machine, f"{function.full} with keywords that are only made while loading")
        elif isinstance(keywords.get("tz"), str):
            _odd(machine, f"{function.full} with a time zone by name, which may be a file")


def _is_own(function: Global, kind: Global, package: str) -> bool:
    if kind.module.partition(".")[0] != package:
        return False
    if package == "sklearn":
        return kind.module.endswith(_TREES) and not kind.callable
    return kind.name.endswith("Index") if package == "pandas" else kind.name == "MaskedArray"


def check_keys(machine: Machine, keys: list[Any], target: Any) -> None:
    """Note keys that numpy and others would take for the address of an object's values."""
    for key in keys:
        if is_interface(key):
            machine.alarm("MW-PKL-005", Level.HIGH, f"{key!r} as a key: an address to be believed")
    if isinstance(target, Call) and target.made_by(
        "sklearn.utils._bunch.Bunch", "sklearn.utils.bunch.Bunch"
    ):
        for key in keys:  # its items are its attributes
            if not isinstance(key, str) or takes_place(key):
                machine.alarm("MW-PKL-005", Level.HIGH, f"a Bunch with the item {key!s:.60}")


def check_adding(machine: Machine, target: Call) -> None:
    """Note values that are appended to something that has a method of its own for it."""
    if not target.made_by(*_GROWING):
        _odd(machine, "values are appended to an object that is no list")
