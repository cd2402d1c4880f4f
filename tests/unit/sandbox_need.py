"""Skips where a sandbox or an environment is missing, fails where it must not be."""

import os
from pathlib import Path

import pytest

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
