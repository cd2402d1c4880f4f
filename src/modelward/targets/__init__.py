"""Targets: a model as something that can be asked."""

from modelward.targets.keras_model import KerasModel, load_keras
from modelward.targets.sandbox import Exchange, SandboxedModel, open_sandboxed
from modelward.targets.target import BudgetedTarget

__all__ = [
    "BudgetedTarget",
    "Exchange",
    "KerasModel",
    "SandboxedModel",
    "load_keras",
    "open_sandboxed",
]
