"""One worker as a process: how it is started, what it uses, how it is ended."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Worker", "machine_memory", "process_children"]

_SPINS = "50000"
"""Turns that a waiting thread of GNU OpenMP spins before it sleeps."""
_END_SECONDS = 5.0
_TAIL_BYTES = 500


class Worker:
    """The process of one attempt at a job.

    Args:
        job_id: The job.
        attempt: Number of the attempt.
        command: What to start.
        log: File for its output.

    Raises:
        OSError: The log or the process could not be made.
    """

    def __init__(self, job_id: str, attempt: int, command: Sequence[str], log: Path) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.log = log
        self.stopped_for: str | None = None
        """Why the dispatcher ended it for good: a limit; None where it did not."""
        self.outlived: float | None = None
        """Since when its job has ended while the process lives on (``time.monotonic``)."""
        with log.open("wb" if attempt == 1 else "ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(),
            )
        self._began = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self._began

    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Ask it to stop at the next checkpoint."""
        self._process.terminate()

    def kill(self) -> None:
        """End it and everything that it started, now; harmless when it has ended."""
        if self._process.poll() is not None:
            return
        tree = _tree(self.pid, process_children())
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in tree:
            # a sandbox may have left the process group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def memory(self, children: Mapping[int, Sequence[int]], limit: int) -> int:
        """Bytes of memory that the process and its descendants hold.

        Resident pages are quick to read, but count shared ones for each process; only where they
        pass the limit the proportional share is read, which is exact and slow.

        Args:
            children: From ``process_children``.
            limit: What the job may use.
        """
        tree = _tree(self.pid, children)
        resident = sum(_resident(pid) for pid in tree)
        return resident if resident <= limit else sum(_proportional(pid) for pid in tree)

    def tail(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
        return "no log"


def process_children() -> dict[int, list[int]]:
    """Children by parent, of all processes on the machine; empty where there is no /proc."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # the name in parentheses may hold anything
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            found.setdefault(parent, []).append(int(path.parent.name))
    return found


def _tree(pid: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    found = [pid]
    for known in found:
        found += [child for child in children.get(known, ()) if child not in found]
    return found


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return _resident(pid)


def machine_memory() -> int:
    """Bytes of memory that this service may use at most: of the machine, or of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    return total


def _of_the_server(name: str) -> bool:
    secret = name in ("MODELWARD_METRICS_TOKEN", "MODELWARD_SSL_KEYFILE_PASSWORD")
    return secret or name.startswith("MODELWARD_SIEM_")


def _environment() -> dict[str, str]:
    """Our own, but idle OpenMP threads spin only briefly.

    By default they spin for milliseconds; where another process wants the cores, a job then runs
    several times slower and takes the time from the server that answers status calls. Threads
    that sleep at once cost a job of small networks a third of its speed on an idle machine.
    """
    # A job opens other people's models: what only the server needs stays out of its reach.
    kept = {name: value for name, value in os.environ.items() if not _of_the_server(name)}
    return {"GOMP_SPINCOUNT": _SPINS, **kept}
