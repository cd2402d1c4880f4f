"""Honest models for the sandbox, and skips where a sandbox or an environment is missing."""

import contextlib
import os
import py_compile
import sys
from pathlib import Path

import numpy as np
import pytest

from modelward.domain import SandboxOptions
from modelward.targets import Exchange, open_sandboxed
from modelward.targets.sandbox import sandbox_available

ROOT = Path(__file__).resolve().parents[2]
TENSORFLOW = Path(os.environ.get("MODELWARD_TF_PYTHON", ROOT / ".venv-tf" / "bin" / "python"))


def need_sandbox() -> None:
    """Skip where there is none; fail where MODELWARD_REQUIRE_SANDBOX is 1."""
    available, reason = sandbox_available()
    if not available:
        if os.environ.get("MODELWARD_REQUIRE_SANDBOX") == "1":
            pytest.fail(f"needs a sandbox: {reason}")
        pytest.skip(f"needs a sandbox: {reason}")


def need_tensorflow() -> None:
    """Skip without ``make tensorflow``; fail where MODELWARD_REQUIRE_ENVS is 1."""
    if not TENSORFLOW.exists():
        reason = f"needs the TensorFlow environment at {TENSORFLOW} (make tensorflow)"
        if os.environ.get("MODELWARD_REQUIRE_ENVS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


OWN = SandboxOptions(interpreters=(Path(sys.executable),))
IMAGES = np.random.default_rng(1).random((300, 4, 5, 1), np.float32)
WEIGHTS = np.random.default_rng(2).normal(size=(20, 3))
WEIGHTS -= WEIGHTS.mean(0)  # so that every class occurs
LABELS = (IMAGES.reshape(300, -1) @ WEIGHTS).argmax(1)

SOURCE = """
import numpy as np
class BaseModel:
    def __init__(self, model_weight_path="{weights}"):
        self.weights = np.load(model_weight_path)
    def predict(self, X):
        print("models may print")
        scores = X.reshape(len(X), -1) @ self.weights
        return {answer}
"""


def base_model(
    folder: Path, *, inside="", weights="w.npy", answer="scores.argmax(1)", compiled=True
):
    place = folder / inside
    place.mkdir(parents=True, exist_ok=True)
    np.save(folder / weights if "/" in weights else place / weights, WEIGHTS)
    source = place / "base_model.py"
    source.write_text(SOURCE.format(weights=weights, answer=answer))
    if not compiled:
        return Exchange("base_model", folder, inside)
    py_compile.compile(str(source), cfile=str(place / "base_model.pyc"), doraise=True)
    source.unlink()
    magic = (place / "base_model.pyc").read_bytes()[:4]
    return Exchange("base_model", folder, inside, magic)


def opened(exchange, **changes):
    given = {
        "input_shape": (4, 5, 1),
        "classes": 3,
        "normalize_data": True,
        "color_space": None,
        "options": OWN,
    }
    return contextlib.closing(open_sandboxed(exchange, **{**given, **changes}))
