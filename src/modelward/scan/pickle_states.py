"""States that make an honest class do harm: methods of its own, files for texts, calls by name."""

from collections.abc import Callable
from typing import Any

from modelward.scan.pickle_checks import Machine, check_handed, odd
from modelward.scan.pickle_values import Call, Global, Group
from modelward.scan.report import Level

__all__ = ["check_methods", "check_model", "check_state"]

_STACKING = frozenset({"sklearn.ensemble._stacking", "sklearn.ensemble.stacking"})
_THRESHOLD = frozenset(
    {
        "sklearn.model_selection._classification_threshold",
        "sklearn.model_selection.classification_threshold",
    }
)
_FUNCTIONS = frozenset(
    {"sklearn.preprocessing._function_transformer", "sklearn.preprocessing.function_transformer"}
)
_ASKED = frozenset({"predict", "predict_proba", "decision_function"})
_MOST_MEMBERS = 4000
_PLACES = {"pos": 624, "buffer_pos": 4}
"""Where a random generator goes on reading, and how far it may be."""
_MOST_PARTS, _MOST_DEPTH = 20, 3
_PARTS = ("_parameters", "_buffers", "_modules")
"""Where PyTorch's modules look for attributes that they do not have."""


def check_state(machine: Machine, state: Any) -> None:
    """Note a state whose keys take the place of methods, or that only loading makes."""
    check_handed(machine, [state])
    parts = state.items if isinstance(state, Group) and state.kind == "tuple" else [state]
    for part in parts:
        if isinstance(part, Call):
            _check_mapping(machine, part)
        elif isinstance(part, Group):
            _check_table(machine, part)


def _check_mapping(machine: Machine, part: Call) -> None:
    """Subclasses of dict: keys came with the call, or were set on it afterwards."""
    given = part.args.items if isinstance(part.args, Group) else []
    mapping = part.items is not None or part.made_by(
        "builtins.dict", "collections.OrderedDict", "collections.Counter",
        "collections.defaultdict",
    )  # fmt: skip
    machine.work(len(given))
    if mapping and any(isinstance(one, Group | Call) for one in given):
        odd(machine, "a state whose keys are only made while loading")
    if part.items is not None:
        _check_table(machine, part.items)


def _check_table(machine: Machine, part: Group) -> None:
    for key in part.risky:
        machine.alarm("MW-PKL-005", Level.HIGH, f"a state that sets {key[:60]!r}")
    machine.work(len(part.items))
    for name, value in zip(part.items[::2], part.items[1::2], strict=False):
        inner = value.items if isinstance(value, Call) else value
        if isinstance(name, str) and name in _PARTS and isinstance(inner, Group) and inner.made:
            odd(machine, f"{name} with keys that are only made while loading")
    if part.made:
        odd(machine, "a state whose keys are only made while loading")


def check_model(machine: Machine, model: Call, state: Any) -> None:
    """Note scikit-learn models whose state lets them read files or call any method.

    The methods that a stacking model calls are only noted: their list may still grow.
    """
    module = model.function.module if isinstance(model.function, Global) else ""
    if module.startswith("numpy.random"):
        _check_random(machine, state, 0)
    check = _MODELS.get(module)
    if check is None:
        return
    machine.work(len(state.items) if isinstance(state, Group) else 0)
    table = state.table() if isinstance(state, Group) else None
    if table is None:
        odd(machine, f"{module} without a plain state")
    else:
        check(machine, table)


def _check_stacking(machine: Machine, table: dict[str, Any]) -> None:
    if "stack_method_" in table:
        machine.stream.methods.append(table["stack_method_"])


def _check_threshold(machine: Machine, table: dict[str, Any]) -> None:
    method = table.get("response_method", "auto")
    if not isinstance(method, str) or method not in _ASKED | {"auto"}:
        odd(machine, "a threshold model that calls a method which is no prediction")


def _check_texts(machine: Machine, table: dict[str, Any]) -> None:
    if table.get("input", "content") != "content":
        odd(machine, "a text model that takes texts for names of files and reads them")


def _check_functions(machine: Machine, table: dict[str, Any]) -> None:
    for key in ("func", "inverse_func"):
        value = table.get(key)
        known = isinstance(value, Global) and value.module.partition(".")[0] in ("numpy", "scipy")
        unknown = isinstance(value, Global) and value.level is not None  # reported by its name
        if value is not None and not known and not unknown:
            odd(machine, "a function transformer with something else than a function of numpy")


def _check_random(machine: Machine, state: Any, depth: int) -> None:
    """A generator reads its numbers from where its state says, even from behind them."""
    if not isinstance(state, Group) or depth > _MOST_DEPTH:
        return
    machine.work(len(state.items))
    places = [(state.items[2], 624)] if state.items[:1] == ["MT19937"] and len(
        state.items) > 2 else []  # fmt: skip
    for key, value in zip(state.items[::2], state.items[1::2], strict=False):
        if state.kind == "dict" and isinstance(key, str) and key in _PLACES:
            places.append((value, _PLACES[key]))
    if any(not isinstance(place, int) or not 0 <= place <= last for place, last in places):
        odd(machine, "a random generator whose state points behind its numbers")
    for value in state.items[:_MOST_PARTS]:
        _check_random(machine, value, depth + 1)


_MODELS: dict[str, Callable[[Machine, dict[str, Any]], None]] = {
    **dict.fromkeys(_STACKING, _check_stacking),
    **dict.fromkeys(_THRESHOLD, _check_threshold),
    **dict.fromkeys(_FUNCTIONS, _check_functions),
    "sklearn.feature_extraction.text": _check_texts,
}


def check_methods(machine: Machine) -> None:
    """Note stacking models that call anything but what classifiers and regressors are asked."""
    for names in machine.stream.methods:
        listed = names.items if isinstance(names, Group) and names.kind == "list" else [None]
        machine.work(len(listed))
        if len(listed) > _MOST_MEMBERS or not all(
            isinstance(name, str) and name in _ASKED for name in listed
        ):
            odd(machine, "a stacking model that calls methods which are no predictions")
            return
