"""One reader, one file, little memory: ``limited.py READER FILE MEBIBYTES``.

Prints the refusal, or ``read``. The limit counts from what the process holds before it reads.
"""

import resource
import sys
from pathlib import Path

from readers import LIMITS, READERS, refused

CPU_SECONDS = 10


def main(reader: str, path: Path, mebibytes: int) -> None:
    content = path.read_bytes()
    # imports of the readers happen before the limit, as they did in the service long before
    refused(READERS[reader], b"")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    held = pages * resource.getpagesize() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (held, held))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + CPU_SECONDS) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    print(refused(READERS[reader], content) or "read")


if __name__ == "__main__":
    assert LIMITS.seconds < CPU_SECONDS
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
