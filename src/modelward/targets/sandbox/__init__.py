"""Models that carry code, run where they can do no harm; ``docs/sandbox.md`` says how."""

from modelward.targets.sandbox.choice import (
    choose_interpreters,
    find_interpreters,
    tensorflow_beside,
)
from modelward.targets.sandbox.exchange import Exchange
from modelward.targets.sandbox.interpreters import Interpreter
from modelward.targets.sandbox.model import SandboxedModel, open_sandboxed
from modelward.targets.sandbox.probe import sandbox_available
from modelward.targets.sandbox.tabular import TabularModel, open_tabular

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
