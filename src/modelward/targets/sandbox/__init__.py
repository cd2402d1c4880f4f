"""Models that carry code, run where they can do no harm; ``docs/sandbox.md`` says how."""

from modelward.targets.sandbox.choice import (
    choose_interpreters,
    find_interpreters,
    tensorflow_beside,
)
from modelward.targets.sandbox.interpreters import Interpreter
from modelward.targets.sandbox.model import (
    Exchange,
    SandboxedModel,
    TabularModel,
    open_sandboxed,
    open_tabular,
)
from modelward.targets.sandbox.probe import sandbox_available

__all__ = [
    "Exchange",
    "Interpreter",
    "SandboxedModel",
    "TabularModel",
    "choose_interpreters",
    "find_interpreters",
    "open_sandboxed",
    "open_tabular",
    "sandbox_available",
    "tensorflow_beside",
]
