"""How processes of jobs ended, in words for people."""

import signal

from modelward.jobs.processes import Worker
from modelward.jobs.runner import Outcome
from modelward.jobs.secrets import mask

__all__ = ["exit_reason", "mib", "quoted_log"]


def quoted_log(worker: Worker) -> str:
    """The end of a job's log, told apart from lines of the service; a terminal obeys none of it."""
    lines = mask(worker.tail()).splitlines()
    shown = (
        line if line.isprintable() else line.encode("unicode_escape").decode() for line in lines
    )
    return "".join(f"\n    | {line}" for line in shown)


def mib(count: int) -> str:
    """Bytes in mebibytes."""
    return f"{count / 2**20:,.0f} MiB"


def exit_reason(code: int) -> str:
    """What the exit code of a process says, negative for a signal."""
    if code == Outcome.TROUBLE:
        return "The job process met a full disk, or a database that could not be used"
    if code == Outcome.INTERRUPTED:
        return "The job process was ended by SIGTERM"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (often: not enough memory)" if name == "SIGKILL" else ""
        return f"The job process was ended by {name}{hint}"
    return f"The job process ended with exit code {code} before the job was done"
