"""The public face of the jobs room, whose names are looked up when they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from modelward import jobs


def test_every_name_is_where_the_type_checker_is_told() -> None:
    tree = ast.parse(Path(str(jobs.__file__)).read_text())
    told = {
        alias.name: str(node.module).removeprefix("modelward.jobs.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("modelward.jobs.")
        for alias in node.names
    }
    assert told == jobs._HOMES
    assert sorted(told) == sorted(jobs.__all__)
    for name in jobs.__all__:
        assert getattr(jobs, name) is not None


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = jobs.nothing


def test_a_job_process_imports_nothing_heavy() -> None:
    code = "import sys, modelward.jobs.worker; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.split())
    heavy = {"torch", "keras", "numpy", "httpx", "fastapi", "modelward.siem", "modelward.settings"}
    assert "modelward.jobs.worker" in loaded
    assert not loaded & heavy
