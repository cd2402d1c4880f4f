"""Whether models can be sandboxed here: found out by running one, never by looking for a file."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

from modelward.domain import ModelwardError, SandboxOptions
from modelward.targets.sandbox.interpreters import inspect_interpreter
from modelward.targets.sandbox.process import SandboxProcess

__all__ = ["mounts_proc", "sandbox_available"]

_KEPT_SECONDS = 600.0
_KEPT_FAILURE_SECONDS = 30.0
_PROBE_SECONDS = 30.0
_lock = threading.Lock()
_known: dict[SandboxOptions, tuple[float, bool, str, bool]] = {}


def sandbox_available(options: SandboxOptions | None = None) -> tuple[bool, str]:
    """Run something harmless in a sandbox and look at what it could see.

    The answer is kept for ten minutes (a refusal for half a minute).

    Returns:
        Whether it works, and why not or how.
    """
    available, reason, _ = _probe(options or SandboxOptions())
    return available, reason


def mounts_proc(options: SandboxOptions) -> bool:
    """Whether sandboxes here get a /proc of their own."""
    return _probe(options)[2]


def _probe(options: SandboxOptions) -> tuple[bool, str, bool]:
    with _lock:
        now = time.monotonic()
        kept = _known.get(options)
        if kept and now - kept[0] < (_KEPT_SECONDS if kept[1] else _KEPT_FAILURE_SECONDS):
            return kept[1:]
        answer = _run(options)
        _known[options] = (now, *answer)
        return answer


def _run(options: SandboxOptions) -> tuple[bool, str, bool]:
    if not options.enabled:
        return False, "it is switched off by the setting sandbox.enabled", False
    reason = ""
    limits = options.model_copy(update={"load_seconds": min(_PROBE_SECONDS, options.load_seconds)})
    for proc in (True, False):
        try:
            own = inspect_interpreter(Path(sys.executable))
            with SandboxProcess(own, None, {"kind": "probe"}, limits, proc=proc) as process:
                leaks = _leaks(process.hello)
        except (ModelwardError, OSError) as error:
            reason = reason or str(error)
            continue
        if leaks:
            return False, f"the sandbox starts but does not hold: {leaks}", proc
        return True, "a sandbox ran" + ("" if proc else ", without /proc"), proc
    return False, reason, False


def _leaks(seen: dict[str, Any]) -> str:
    """What the program inside saw and must not see; the empty text where all is well."""
    if seen.get("uid") != 65534:
        return f"it runs as user {seen.get('uid')} inside"
    if seen.get("interfaces") != ["lo"]:
        return f"it sees the network interfaces {seen.get('interfaces')}"
    processes = seen.get("processes")
    if not isinstance(processes, list) or len(processes) > 3:  # bubblewrap, its helper, the child
        return f"it sees the processes {processes}"
    if not set(seen.get("etc", ["?"])) <= {"ld.so.cache", "alternatives"}:
        return f"it sees /etc: {seen.get('etc')}"
    return ""
