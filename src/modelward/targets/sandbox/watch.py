"""Looks after the memory of everything that runs in one sandbox.

Limits of the kernel (RLIMIT_DATA) hold for one process; a model may start many. Their memory is
added up a few times a second, and the sandbox is ended where it is too much or where the machine
itself runs short.
"""

import os
import threading
from collections.abc import Callable, Iterator

__all__ = ["Watch", "descendants"]

_EVERY_SECONDS = 0.2
_LEAST_FREE_SHARE = 0.03


class Watch:
    """A thread that ends a sandbox which takes too much memory.

    Args:
        process: Id of the outermost process of the sandbox.
        limit: Bytes of all its processes together.
        end: Called once, with the reason.
    """

    def __init__(self, process: int, limit: int, end: Callable[[str], None]) -> None:
        self._process = process
        self._limit = limit
        self._end = end
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no longer; never waits."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY_SECONDS):
            used = sum(_memory(process) for process in descendants(self._process))
            if used > self._limit:
                self._end(f"it took more than the {self._limit >> 20} MiB of memory it may have")
                return
            free, total = _machine()
            if free < _LEAST_FREE_SHARE * total:
                # Buffers of pipes and sockets and empty files are held by the kernel, for nobody.
                self._end("the machine ran short of memory, where models are the first to go")
                return


def descendants(process: int) -> Iterator[int]:
    """A process and all that it and its threads started, as far as they can be seen."""
    pending, seen = [process], set()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        try:
            threads = os.listdir(f"/proc/{one}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{one}/task/{thread}/children") as file:
                    pending += map(int, file.read().split())
            except OSError:
                continue


def _memory(process: int) -> int:
    """Bytes of memory of its own, without mapped files."""
    total = 0
    try:
        with open(f"/proc/{process}/status") as file:
            for line in file:
                if line.startswith(("RssAnon:", "RssShmem:", "VmSwap:")):
                    total += int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        return 0
    return total


def _machine() -> tuple[int, int]:
    """Free and all memory of the machine in bytes; zeros where it cannot be told."""
    found = {}
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in ("MemAvailable", "MemTotal"):
                    found[name] = int(value.split()[0]) << 10
    except (OSError, ValueError, IndexError):
        return 0, 0
    return found.get("MemAvailable", 0), found.get("MemTotal", 0)
