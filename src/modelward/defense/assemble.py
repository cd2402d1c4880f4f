"""Puts the detector's runtime and the SIEM sender into one file that needs no siblings."""

import ast
import json
from collections.abc import Mapping
from importlib import resources

from modelward.domain import ModelwardError

__all__ = ["ARTIFACT_PARTS", "assemble"]

ARTIFACT_PARTS = (
    ("modelward.siem", "events.py"),
    ("modelward.siem", "transport.py"),
    ("modelward.siem", "sentinel.py"),
    ("modelward.siem", "splunk.py"),
    ("modelward.siem", "spool_file.py"),
    ("modelward.siem", "spool_link.py"),
    ("modelward.siem", "spool.py"),
    ("modelward.siem", "keeping.py"),
    ("modelward.siem", "sending.py"),
    ("modelward.siem", "lifetimes.py"),
    ("modelward.siem", "delivery.py"),
    ("modelward.siem", "credentials.py"),
    ("modelward.defense", "runtime.py"),
)
"""(package, file) in the order in which they use each other."""
_OWN = "modelward"
_FACTS = "ARTIFACT: dict[str, str] = {}"


def assemble(header: str, facts: Mapping[str, str]) -> str:
    """The text of ``predict.py``.

    Imports within the package are dropped, the others are gathered at the top; everything else
    stays as it is written, docstrings and comments included.

    Args:
        header: Comment at the very top.
        facts: What ``ARTIFACT`` holds in the assembled file.

    Raises:
        ModelwardError: Two parts define the same name, or one imports what is not assembled.
    """
    imports: set[str] = set()
    owner: dict[str, str] = {}
    bodies = []
    doc = ""
    for package, file in ARTIFACT_PARTS:
        text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
        tree = ast.parse(text)
        part = f"{package}.{file.removesuffix('.py')}"
        for name in _defined(tree):
            if owner.setdefault(name, part) != part:
                raise ModelwardError(
                    f"artifact: expected different names in {owner[name]} and {part}, both define "
                    f"{name}; rename one"
                )
        found, body = _split(text, tree, part)
        imports |= found
        doc = ast.get_docstring(tree, clean=False) or ""
        bodies.append(f"# --- {part}\n\n{body.strip()}\n")
    last = bodies[-1].replace(_FACTS, f"{_FACTS[:-2]}{json.dumps(dict(facts), indent=4)}")
    if facts and last == bodies[-1]:
        raise ModelwardError(f"artifact: expected the line {_FACTS!r} in the runtime")
    standard = sorted(i for i in imports if not i.startswith(("import numpy", "from numpy")))
    numpy = sorted(imports - set(standard))
    # Annotations stay text, for Python 3.8. Hence no part has dataclasses: with annotations as text
    # they look their module up, and a file that is executed by its path is in no list of modules.
    top = [header.rstrip(), f'"""{doc}"""', "from __future__ import annotations"]
    top += ["\n".join(standard), "\n".join(numpy), '__all__ = ["AISDefenseModel"]']
    return "\n\n".join(top) + "\n\n\n" + "\n\n".join([*bodies[:-1], last])


def _defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names - {"__all__"}


def _split(text: str, tree: ast.Module, part: str) -> tuple[set[str], str]:
    """Imports from outside, and the rest without docstring, imports and ``__all__``."""
    lines = text.splitlines()
    drop: set[int] = set()
    outside: set[str] = set()
    known = {f"{package}.{file.removesuffix('.py')}" for package, file in ARTIFACT_PARTS}
    for number, node in enumerate(tree.body):
        docstring = number == 0 and isinstance(node, ast.Expr)
        exported = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == _OWN:
            if node.module not in known or any(alias.asname for alias in node.names):
                raise ModelwardError(
                    f"artifact: {part} imports from {node.module}, which is not assembled"
                )
        elif isinstance(node, ast.Import | ast.ImportFrom):
            outside |= _single(node)
        elif not (docstring or exported):
            continue
        drop |= set(range(node.lineno - 1, node.end_lineno or node.lineno))
    kept = [line for index, line in enumerate(lines) if index not in drop]
    return outside, "\n".join(kept)


def _single(node: ast.Import | ast.ImportFrom) -> set[str]:
    """One statement per imported name, so that those of several files can be merged."""
    start = "import" if isinstance(node, ast.Import) else f"from {node.module} import"
    return {
        f"{start} {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
        for alias in node.names
    }
