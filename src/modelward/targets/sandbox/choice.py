"""Which interpreters may run a model, and which kinds of models carry code."""

import sys
from pathlib import Path

from modelward.domain import AssessmentError, SandboxOptions
from modelward.targets.sandbox.interpreters import (
    Interpreter,
    inspect_interpreter,
    python_of_magic,
)

__all__ = ["KINDS", "choose_interpreters", "find_interpreters", "tensorflow_beside"]

KINDS = {
    "saved_model": "a TensorFlow SavedModel",
    "base_model": "a Python model (base_model)",
    "pickle": "a pickled model",
}


def find_interpreters(options: SandboxOptions) -> tuple[list[Interpreter], list[str]]:
    """The interpreters that may run models, in order of preference, and what is wrong with others.

    Args:
        options: Where ``interpreters`` is empty, our own is the only one.
    """
    found, problems = [], []
    for path in options.interpreters or (Path(sys.executable),):
        try:
            found.append(inspect_interpreter(path))
        except AssessmentError as error:
            problems.append(error.message)
    return found, problems


def choose_interpreters(kind: str, magic: bytes, options: SandboxOptions) -> list[Interpreter]:
    """The interpreters that fit a model, the preferred one first.

    Args:
        kind: One of ``KINDS``.
        magic: First four bytes of a compiled ``base_model.pyc``; empty for anything else.
        options: Names the interpreters.

    Raises:
        AssessmentError: None fits; the message says what was found and what is needed.
    """
    found, problems = find_interpreters(options)
    fitting = [one for one in found if "numpy" in one.modules]
    need = "Python with numpy"
    if kind == "saved_model":
        fitting = [one for one in fitting if "tensorflow" in one.modules]
        need = "an environment with TensorFlow (make tensorflow, or one of your own)"
    elif kind == "pickle":
        fitting = [one for one in fitting if one.modules & {"sklearn", "xgboost", "joblib"}]
        need = "Python with the library that made the model (scikit-learn, xgboost)"
    elif magic:
        fitting = [one for one in fitting if one.magic == magic]
        need = (
            f"{python_of_magic(magic)} with numpy, because that compiled base_model.pyc; compile "
            f"it with Python {sys.version_info.major}.{sys.version_info.minor}, send base_model.py,"
        )
    if fitting:
        return fitting
    have = "; ".join([*(f"{one.name}{_lacking(one)}" for one in found), *problems])
    raise AssessmentError(
        f"model: expected an interpreter for {KINDS[kind]}: {need} or name one in the setting "
        f"sandbox.interpreters (MODELWARD_SANDBOX_INTERPRETERS); found {have or 'none'}"
    )


def _lacking(interpreter: Interpreter) -> str:
    return "" if "numpy" in interpreter.modules else " (without numpy)"


def tensorflow_beside(data: Path | None) -> Path | None:
    """The TensorFlow environment of ``make tensorflow``: beside our own, or in the data folder."""
    places = [Path(sys.prefix).parent]
    if data is not None:
        places.append(data.absolute())
    for place in places:
        python = place / ".venv-tf" / "bin" / "python"
        if python.is_file():
            return python
    return None
