"""Hands a model's files into a sandbox and starts it under an interpreter that fits."""

import os
from dataclasses import dataclass
from pathlib import Path

from modelward.domain import AssessmentError, SandboxOptions
from modelward.targets.sandbox.bubblewrap import INSIDE
from modelward.targets.sandbox.choice import KINDS, choose_interpreters
from modelward.targets.sandbox.interpreters import Interpreter
from modelward.targets.sandbox.probe import mounts_proc, sandbox_available
from modelward.targets.sandbox.process import MissingModuleError, SandboxProcess

__all__ = ["Exchange", "start_model"]


@dataclass(frozen=True)
class Exchange:
    """A model's files, as they are handed into the sandbox."""

    kind: str
    """One of ``KINDS``."""
    folder: Path
    """Folder with the unpacked archive; where the service runs as root, its modes are opened."""
    inside: str = ""
    """The model in it: the folder of a SavedModel or of ``base_model``, or a pickled file."""
    magic: bytes = b""
    """First four bytes of a compiled ``base_model.pyc``; empty for anything else."""


def start_model(
    exchange: Exchange, classes: int, options: SandboxOptions
) -> tuple[SandboxProcess, Interpreter]:
    """Start a model in the sandbox.

    Where a package is missing under one interpreter, the next that fits is tried.

    Args:
        exchange: The model's files.
        classes: Number of classes; 0 where it does not matter.
        options: Limits and interpreters.

    Raises:
        AssessmentError: There is no sandbox or no interpreter, or the model does not load.
    """
    kind = exchange.kind
    available, reason = sandbox_available(options)
    if not available:
        raise AssessmentError(
            f"model: {KINDS[kind]} carries code and runs in a sandbox only; there is none: {reason}"
        )
    if os.geteuid() == 0:
        _open_to_all(exchange.folder)
    place = f"{INSIDE}/{exchange.inside}".rstrip("/")
    config = {
        "kind": kind,
        "classes": classes,
        "folders": [place] if place == INSIDE else [place, INSIDE],
        "file": place,
    }
    lacking = None
    for interpreter in choose_interpreters(kind, exchange.magic, options):
        try:
            proc = mounts_proc(options)
            process = SandboxProcess(interpreter, exchange.folder, config, options, proc=proc)
        except MissingModuleError as error:
            lacking = lacking or error  # another interpreter may have the package
            continue
        return process, interpreter
    raise lacking or AssessmentError("model: expected an interpreter for the sandbox; got none")


def _open_to_all(folder: Path) -> None:
    """Let the unprivileged user of the sandbox read it; folders above keep others out."""
    for place, _, files in os.walk(folder):
        os.chmod(place, 0o755)  # noqa: S103
        for name in files:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                os.chmod(path, 0o644)
