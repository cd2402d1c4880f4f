"""Python interpreters that may run a model: what each offers, and what it needs to be seen."""

import functools
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelward.domain import AssessmentError

__all__ = ["Interpreter", "inspect_interpreter", "python_of_magic"]

_PROBE_SECONDS = 60
_PROBE = """
import importlib.util, json, os, sys, sysconfig
names = ("numpy", "tensorflow", "torch", "keras", "sklearn", "xgboost", "joblib")
def found(name):
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:
        return False
print(json.dumps({
    "version": ".".join(map(str, sys.version_info[:3])),
    "magic": importlib.util.MAGIC_NUMBER.hex(),
    "prefix": sys.prefix, "base": sys.base_prefix, "path": sys.path,
    "executable": sys.executable, "libraries": sysconfig.get_config_var("LIBDIR") or "",
    "modules": [name for name in names if found(name)],
}))
"""
_MAGICS = (
    (3360, "3.6"), (3390, "3.7"), (3400, "3.8"), (3420, "3.9"), (3430, "3.10"), (3450, "3.11"),
    (3500, "3.12"), (3550, "3.13"), (3600, "3.14"), (3650, "3.15"), (3700, None), (62011, "2.x"),
    (62212, None),
)  # fmt: skip
"""First magic number of each version, as importlib's source lists them."""


@dataclass(frozen=True)
class Interpreter:
    """One interpreter."""

    path: Path
    """As it is called."""
    version: str
    magic: bytes
    """The four bytes with which its compiled files begin."""
    modules: frozenset[str]
    """Which of numpy, tensorflow, torch, keras, sklearn, xgboost and joblib it can import."""
    binds: tuple[tuple[str, str], ...]
    """Host path and path inside of all that it needs, apart from the system's libraries."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"Python {self.version} at {self.path}"


def python_of_magic(magic: bytes) -> str:
    """The Python version that writes compiled files with this beginning, or what it is."""
    if len(magic) != 4 or magic[2:] != b"\r\n":
        return "no Python version (it is no compiled Python file)"
    number = int.from_bytes(magic[:2], "little")
    known = [name for first, name in _MAGICS if first <= number]
    if not known or known[-1] is None:
        return f"an unknown Python version (magic number {number})"
    return f"Python {known[-1]}"


def inspect_interpreter(path: Path) -> Interpreter:
    """Ask an interpreter what it is; the answer is kept until the file changes.

    Raises:
        AssessmentError: It is missing or does not answer.
    """
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise AssessmentError(
            f"sandbox.interpreters: expected a Python interpreter at {path}; got {error.strerror}"
        ) from None
    return _inspect(path, stamp)


@functools.lru_cache(maxsize=64)
def _inspect(path: Path, stamp: int) -> Interpreter:
    try:
        run = subprocess.run(  # noqa: S603 - interpreters are named by the settings only
            [str(path), "-I", "-c", _PROBE],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=True,
            cwd="/",
        )
        said: dict[str, Any] = json.loads(run.stdout)
        return Interpreter(
            path=path,
            version=said["version"],
            magic=bytes.fromhex(said["magic"]),
            modules=frozenset(said["modules"]),
            binds=_binds(path, said),
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise AssessmentError(
            f"sandbox.interpreters: expected a Python interpreter (3.8 or newer) at {path}; got "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from None


def _binds(path: Path, said: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """The executable, its standard library and its installed packages; nothing else of its home."""
    prefix, base = Path(said["prefix"]), Path(said["base"])
    places = [base / "lib", base / "lib64", Path(said["libraries"] or base / "lib")]
    places += [prefix / "lib", prefix / "lib64"]
    for entry in said["path"]:
        folder = Path(entry)
        if folder.name in ("site-packages", "dist-packages") or _inside(folder, (base, prefix)):
            places.append(folder)
    binds: dict[str, str] = {}
    for place in places:
        if place.is_dir() and len(place.parts) > 2 and not _inside(place, map(Path, binds)):
            binds[str(place)] = os.path.realpath(place)
    for file in (Path(said["executable"]), path.absolute(), Path(os.path.realpath(path))):
        if not _inside(file, map(Path, binds)):
            binds[str(file)] = os.path.realpath(file)
    settings = prefix / "pyvenv.cfg"
    if settings.is_file():
        binds[str(settings)] = os.path.realpath(settings)
    return tuple((source, inside) for inside, source in binds.items())


def _inside(path: Path, folders: Iterable[Path]) -> bool:
    return any(path == folder or path.is_relative_to(folder) for folder in folders)
